//! What can be wrong with a picture file.

use std::path::Path;

/// Why a file gives no picture. Every message names the file and the rule it breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Nothing has this name.
    #[error("{name}: no such file")]
    Missing {
        /// The file.
        name: String,
    },
    /// The name is that of a folder.
    #[error("{name}: is a folder, not a picture")]
    Folder {
        /// The folder.
        name: String,
    },
    /// The operating system refuses to read it.
    #[error("{name}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        name: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The file has no content.
    #[error("{name}: is empty")]
    Empty {
        /// The file.
        name: String,
    },
    /// The file is larger than [`DecodeLimits::max_file_bytes`](super::DecodeLimits).
    #[error("{name}: is larger than {} MB, the limit for a picture file", .limit / 1_000_000)]
    FileTooLarge {
        /// The file.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is none of the formats read, whatever the name says.
    #[error(
        "{name}: is not a picture that can be read (its content is not JPEG, PNG, WebP, GIF, BMP or TIFF)"
    )]
    NotPicture {
        /// The file.
        name: String,
    },
    /// A picture, in a format that is not read.
    #[error("{name}: is {format}, which is not read: convert it to JPEG or PNG first")]
    OtherFormat {
        /// The file.
        name: String,
        /// Common name of the format.
        format: &'static str,
    },
    /// The format is read, but not this variety of it.
    #[error("{name}: this kind of {format} is not supported: {reason}")]
    Unsupported {
        /// The file.
        name: String,
        /// Common name of the format.
        format: &'static str,
        /// What the decoder does not support.
        reason: String,
    },
    /// The file ends before the picture does.
    #[error("{name}: is cut short: the {format} ends before the picture is complete")]
    Truncated {
        /// The file.
        name: String,
        /// Common name of the format.
        format: &'static str,
    },
    /// The content breaks the rules of its format.
    #[error("{name}: is damaged: {reason}")]
    Corrupt {
        /// The file.
        name: String,
        /// Common name of the format.
        format: &'static str,
        /// The rule that is broken, as the decoder puts it.
        reason: String,
    },
    /// The header declares a side of no pixels.
    #[error("{name}: declares {width}×{height} pixels: there is nothing in it")]
    ZeroSized {
        /// The file.
        name: String,
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
    },
    /// The header declares more pixels than allowed. Nothing was allocated for them.
    #[error(
        "{name}: declares {width}×{height} pixels, over the limit of {} megapixels \
         (raise it with --max-megapixels)",
        *.limit as f64 / 1e6
    )]
    TooManyPixels {
        /// The file.
        name: String,
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// One side is longer than [`DecodeLimits::max_side`](super::DecodeLimits).
    #[error("{name}: declares {width}×{height} pixels: no side may be longer than {limit}")]
    SideTooLong {
        /// The file.
        name: String,
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// The limit in pixels.
        limit: u32,
    },
    /// Decoding would take far more memory than its pixels need.
    #[error("{name}: decoding this {format} would take more memory than its size allows")]
    TooMuchMemory {
        /// The file.
        name: String,
        /// Common name of the format.
        format: &'static str,
    },
}

/// A path as shown in messages: bytes that are no UTF-8 and control characters, which could
/// drive the terminal, become `�`.
pub(super) fn display_name(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
