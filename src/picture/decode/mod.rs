//! Bytes to [`Picture`]: what kind of file, how large, then its decoder: that of the `image`
//! crate, but for JPEG and for two kinds of TIFF.

mod error;
mod format;
mod jpeg;
mod reduce;
mod source;
mod tiff;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

pub use error::DecodeError;
pub(crate) use jpeg::decode_planes;

use super::frame::Picture;
use format::format_name;
use source::Source;

/// How much a picture may ask for. Checked against the header, before anything is allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most pixels a picture may have; 200 megapixels by default.
    pub max_pixels: u64,
    /// Longest side in pixels; 2²⁰ by default. It bounds the resizing tables.
    pub max_side: u32,
    /// Largest file in bytes; 1 GiB by default.
    pub max_file_bytes: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: 200_000_000, max_side: 1 << 20, max_file_bytes: 1 << 30 }
    }
}

/// Reads and decodes a picture file: JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF,
/// recognised by content.
///
/// The picture comes upright (EXIF orientation applied) and in 8 bits: of 16-bit samples the
/// high byte is kept, as Pillow does.
///
/// # Errors
/// Any [`DecodeError`]; the file is named in it. An incomplete file is an error, never half a
/// picture.
pub fn decode_file(path: &Path, limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    let name = error::display_name(path);
    let bytes = read_bounded(path, &name, limits.max_file_bytes)?;
    decode_bytes(&bytes, &name, limits)
}

/// Decodes a picture file held in memory; `name` stands for it in errors.
///
/// # Errors
/// As [`decode_file`].
///
/// ```
/// use sextant::picture::{DecodeError, DecodeLimits, decode_bytes};
/// let claim = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0\xbf\x4d\x3a\xd7";
/// let refused = decode_bytes(claim, "claim.png", &DecodeLimits::default());
/// assert!(matches!(refused, Err(DecodeError::TooManyPixels { width: 60000, .. })));
/// ```
pub fn decode_bytes(
    bytes: &[u8],
    name: &str,
    limits: &DecodeLimits,
) -> Result<Picture, DecodeError> {
    let (image, orientation) = match format::recognise(bytes, name)? {
        ImageFormat::Jpeg => jpeg::decode(bytes, name, limits)?,
        ImageFormat::Tiff => decode_tiff(bytes, name, limits)?,
        format => decode_other(bytes, format, name, limits)?,
    };
    Ok(reduce::upright_8_bit(image, orientation))
}

/// A TIFF file, of which some kinds need a detour.
fn decode_tiff(
    bytes: &[u8],
    name: &str,
    limits: &DecodeLimits,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    let Some((stand_in, meaning)) = tiff::redeclare(bytes) else {
        return decode_other(bytes, ImageFormat::Tiff, name, limits);
    };
    let (decoded, orientation) = decode_other(&stand_in, ImageFormat::Tiff, name, limits)?;
    let (name, format) = (name.to_owned(), format_name(ImageFormat::Tiff));
    if meaning.is_cut_short() {
        return Err(DecodeError::Truncated { name, format });
    }
    let reason = "it needs 8-bit samples, and a colour for every palette number";
    let unsupported = || DecodeError::Unsupported { name, format, reason: reason.to_owned() };
    Ok((meaning.colours(&decoded).ok_or_else(unsupported)?, orientation))
}

/// Any file, by the `image` crate; the orientation is still to be applied.
fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    name: &str,
    limits: &DecodeLimits,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    if let Some(size) = format::declared_size(bytes, format) {
        check_size(size, name, limits)?;
    }
    let (source, exhausted) = Source::new(bytes);
    let failed = |error| translate(error, exhausted.get(), name, format);
    let mut reader = ImageReader::with_format(source, format);
    reader.limits(decoder_limits(limits));
    let mut decoder = reader.into_decoder().map_err(failed)?;
    check_size(decoder.dimensions(), name, limits)?;
    if format == ImageFormat::WebP && format::is_short_webp(bytes) {
        return Err(DecodeError::Truncated { name: name.to_owned(), format: format_name(format) });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    Ok((DynamicImage::from_decoder(decoder).map_err(failed)?, orientation))
}

/// Reads a whole file, but stops early at one that is too large or no picture at all.
fn read_bounded(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>, DecodeError> {
    let refuse = |reason: io::Error| match reason.kind() {
        io::ErrorKind::NotFound => DecodeError::Missing { name: name.to_owned() },
        io::ErrorKind::IsADirectory => DecodeError::Folder { name: name.to_owned() },
        _ => DecodeError::Unreadable { name: name.to_owned(), reason },
    };
    let mut file = File::open(path).map_err(refuse)?;
    let length = file.metadata().map_err(refuse)?.len();
    let too_large = || DecodeError::FileTooLarge { name: name.to_owned(), limit };
    if length > limit {
        return Err(too_large());
    }
    // The length of a pipe is not known, and a file may grow: read to the limit and one more.
    let mut bytes = Vec::new();
    file.by_ref().take(format::HEADER_BYTES).read_to_end(&mut bytes).map_err(refuse)?;
    format::recognise(&bytes, name)?;
    bytes.reserve(usize::try_from(length).unwrap_or(0).saturating_sub(bytes.len()));
    let rest = (limit + 1).saturating_sub(bytes.len() as u64);
    file.take(rest).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// The `image` crate's own limits: room for the samples (at most four of 16 bits a pixel) twice,
/// and a little for palettes, profiles and rows.
fn decoder_limits(limits: &DecodeLimits) -> Limits {
    let mut inner = Limits::no_limits();
    inner.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(64 << 20));
    inner
}

fn check_size(
    (width, height): (u32, u32),
    name: &str,
    limits: &DecodeLimits,
) -> Result<(), DecodeError> {
    let name = name.to_owned();
    if width == 0 || height == 0 {
        return Err(DecodeError::ZeroSized { name, width, height });
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooManyPixels { name, width, height, limit: limits.max_pixels });
    }
    if width.max(height) > limits.max_side {
        return Err(DecodeError::SideTooLong { name, width, height, limit: limits.max_side });
    }
    Ok(())
}

/// The decoder's error in our words: which of our rules it amounts to.
fn translate(error: ImageError, exhausted: bool, name: &str, format: ImageFormat) -> DecodeError {
    let (name, format) = (name.to_owned(), format_name(format));
    match error {
        ImageError::Unsupported(reason) => {
            DecodeError::Unsupported { name, format, reason: reason.to_string() }
        }
        ImageError::Limits(_) => DecodeError::TooMuchMemory { name, format },
        _ if exhausted => DecodeError::Truncated { name, format },
        other => DecodeError::Corrupt { name, format, reason: other.to_string() },
    }
}
