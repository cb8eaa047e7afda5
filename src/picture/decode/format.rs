//! What kind of file is it? By content: names lie.

use image::ImageFormat;

use super::error::DecodeError;

/// So many first bytes are enough to recognise any format.
pub(super) const HEADER_BYTES: u64 = 4096;

/// Formats people try that are not read, by where their signature stands.
const OTHER_FORMATS: [(usize, &[u8], &str); 17] = [
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftyphevc", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyp", "MP4 video"),
    (0, b"\x1A\x45\xDF\xA3", "Matroska or WebM video"),
    (0, b"\xFF\x0A", "JPEG XL"),
    (0, b"\0\0\0\x0CJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0CjP  ", "JPEG 2000"),
    (0, b"%PDF-", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"qoif", "QOI"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
];

/// The format of a file from its first [`HEADER_BYTES`] (or from all of it).
pub(super) fn recognise(bytes: &[u8], name: &str) -> Result<ImageFormat, DecodeError> {
    let name = name.to_owned();
    if bytes.is_empty() {
        return Err(DecodeError::Empty { name });
    }
    if let Ok(format) = image::guess_format(bytes)
        && READ_FORMATS.iter().any(|(read, _)| *read == format)
    {
        return match EXTRA_FORMATS.contains(&format) && cfg!(not(feature = "formats")) {
            true => Err(DecodeError::OtherFormat { name, format: format_name(format) }),
            false => Ok(format),
        };
    }
    let known = OTHER_FORMATS.iter().find(|(offset, signature, _)| {
        bytes.get(*offset..).is_some_and(|b| b.starts_with(signature))
    });
    match known {
        Some((_, _, format)) => Err(DecodeError::OtherFormat { name, format }),
        None => Err(DecodeError::NotPicture { name }),
    }
}

const READ_FORMATS: [(ImageFormat, &str); 6] = [
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Png, "PNG"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Tiff, "TIFF"),
];

/// Those that only a program with the feature `formats` reads.
const EXTRA_FORMATS: [ImageFormat; 4] =
    [ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff];

/// The common name of a format that is read.
pub(super) fn format_name(format: ImageFormat) -> &'static str {
    READ_FORMATS.iter().find(|(read, _)| *read == format).map_or("picture", |(_, name)| name)
}

/// The size that a header declares, where it stands at a fixed place, read before any decoder
/// looks at the file: a file of header alone then gets the error that matters.
pub(super) fn declared_size(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    let four = |at: usize| bytes.get(at..)?.first_chunk().copied();
    let two = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes);
    match format {
        ImageFormat::Png if bytes.get(12..16)? == b"IHDR" => {
            Some((u32::from_be_bytes(four(16)?), u32::from_be_bytes(four(20)?)))
        }
        ImageFormat::Gif => Some((two(6)?.into(), two(8)?.into())),
        // Rows from the top are declared by a negative height.
        ImageFormat::Bmp if u32::from_le_bytes(four(14)?) >= 40 => {
            let side = |at| four(at).map(|side| i32::from_le_bytes(side).unsigned_abs());
            Some((side(18)?, side(22)?))
        }
        _ => None,
    }
}

/// Whether a WebP file is shorter than its RIFF header says: its decoder shrugs off a few bytes
/// missing at the end.
pub(super) fn is_short_webp(bytes: &[u8]) -> bool {
    let declared = bytes.get(4..).and_then(|rest| rest.first_chunk().copied());
    let declared = declared.map_or(0, |size| u64::from(u32::from_le_bytes(size)) + 8);
    declared > bytes.len() as u64
}
