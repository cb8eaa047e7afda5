//! When a picture was taken.

use std::io::Cursor;

use exif::{Exif, In, Tag, Value};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::cli::moment::Moment;

/// Which time a row gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// When the camera says that it took the picture, else the time of the file's last change.
    Auto,
    /// When the camera says that it took the picture, else none.
    Exif,
    /// The time of the file's last change.
    Modified,
    /// No time.
    None,
    /// This one, in milliseconds since 1970.
    At(i64),
}

impl TimeSource {
    /// Reads the value of `--time`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "exif" => Ok(Self::Exif),
            "mtime" => Ok(Self::Modified),
            "none" => Ok(Self::None),
            _ => Moment::parse(text)
                .map(|moment| Self::At(moment.first))
                .map_err(|rule| format!("auto, exif, mtime, now, none, or a time: {rule}")),
        }
    }

    /// The time of a picture in milliseconds since 1970, of a file that was last changed at
    /// `modified` (in nanoseconds).
    pub fn of(self, bytes: &[u8], modified: i64) -> Option<i64> {
        let of_file = modified.div_euclid(1_000_000);
        match self {
            Self::Auto => Some(taken(bytes).unwrap_or(of_file)),
            Self::Exif => taken(bytes),
            Self::Modified => Some(of_file),
            Self::None => None,
            Self::At(time) => Some(time),
        }
    }
}

/// What the camera wrote, in milliseconds since 1970. A time without an offset is read as one
/// of this machine's clock.
fn taken(bytes: &[u8]) -> Option<i64> {
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)).ok()?;
    let original = (Tag::DateTimeOriginal, Tag::SubSecTimeOriginal, Tag::OffsetTimeOriginal);
    let digitised = (Tag::DateTimeDigitized, Tag::SubSecTimeDigitized, Tag::OffsetTimeDigitized);
    [original, digitised].into_iter().find_map(|(time, fraction, offset)| {
        let mut found = exif::DateTime::from_ascii(ascii(&exif, time)?).ok()?;
        // Without these the time is as good as most cameras write it.
        let _ = ascii(&exif, fraction).map(|text| found.parse_subsec(text));
        let _ = ascii(&exif, offset).map(|text| found.parse_offset(text));
        milliseconds(&found)
    })
}

fn ascii(exif: &Exif, tag: Tag) -> Option<&[u8]> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(lines) => lines.first().map(Vec::as_slice),
        _ => None,
    }
}

fn milliseconds(time: &exif::DateTime) -> Option<i64> {
    let signed = |part: u8| i8::try_from(part).ok();
    let civil = DateTime::new(
        i16::try_from(time.year).ok()?,
        signed(time.month)?,
        signed(time.day)?,
        signed(time.hour)?,
        signed(time.minute)?,
        signed(time.second)?,
        i32::try_from(time.nanosecond.unwrap_or(0)).ok()?,
    );
    let zone = match time.offset {
        Some(minutes) => Offset::from_seconds(i32::from(minutes) * 60).ok()?.to_time_zone(),
        None => TimeZone::system(),
    };
    Some(civil.ok()?.to_zoned_datetime(zone).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF header with one Exif directory of text fields, as it lies in an APP1 segment of
    /// a JPEG file.
    fn jpeg_with(fields: &[(u16, &str)]) -> Vec<u8> {
        let mut tiff =
            b"MM\0\x2a\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0".to_vec();
        let mut text_at = tiff.len() + 2 + fields.len() * 12 + 4;
        let mut texts = Vec::new();
        tiff.extend((fields.len() as u16).to_be_bytes());
        for (tag, text) in fields {
            let text = [text.as_bytes(), b"\0"].concat();
            tiff.extend(tag.to_be_bytes());
            tiff.extend([0, 2]);
            tiff.extend((text.len() as u32).to_be_bytes());
            if text.len() <= 4 {
                tiff.extend([&text[..], &[0; 4][..4 - text.len()]].concat());
            } else {
                tiff.extend((text_at as u32).to_be_bytes());
                text_at += text.len();
                texts.extend(text);
            }
        }
        tiff.extend([0; 4]);
        tiff.extend(texts);
        let length = (tiff.len() + 8) as u16;
        [b"\xff\xd8\xff\xe1", &length.to_be_bytes()[..], b"Exif\0\0", &tiff, b"\xff\xd9"].concat()
    }

    #[test]
    fn the_camera_s_time_is_read_with_fraction_and_offset() {
        let fields = [(0x9003, "2026:05:10 12:00:00"), (0x9011, "+02:00"), (0x9291, "25")];
        let bytes = jpeg_with(&fields);
        assert_eq!(TimeSource::Exif.of(&bytes, 0), Some(1_778_407_200_250));
        let digitised = jpeg_with(&[(0x9004, "2026:05:10 10:00:00"), (0x9012, "+00:00")]);
        assert_eq!(TimeSource::Auto.of(&digitised, 0), Some(1_778_407_200_000));
    }

    #[test]
    fn without_a_usable_time_the_file_s_counts_or_none() {
        for bytes in [
            jpeg_with(&[]),
            jpeg_with(&[(0x9003, "    :  :     :  :  ")]),
            jpeg_with(&[(0x9003, "2026:13:10 12:00:00"), (0x9011, "+02:00")]),
            jpeg_with(&[(0x9003, "0000:00:00 00:00:00")]),
            b"\xff\xd8\xff\xe1\xff\xffExif\0\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(TimeSource::Exif.of(&bytes, 7_000_000), None);
            assert_eq!(TimeSource::Auto.of(&bytes, 7_000_000), Some(7));
            assert_eq!(TimeSource::None.of(&bytes, 7_000_000), None);
        }
        assert_eq!(TimeSource::parse("@3").map(|s| s.of(&[], 0)), Ok(Some(3000)));
        assert!(TimeSource::parse("soon").unwrap_err().starts_with("auto, exif, mtime"));
    }
}
