//! Small pictures, and where they are kept beside an index.

use std::io;
use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use libjpeg_turbo_rs::{Encoder, PixelFormat};
use sextant::{Picture, picture::Pixels};
use sha2::{Digest, Sha256};

/// The folder in an index that holds thumbnails.
pub const FOLDER: &str = "thumbnails";
/// Longest side of a thumbnail, in pixels.
pub const SIDE: u32 = 240;
/// JPEG quality of a thumbnail.
pub const QUALITY: u8 = 75;
/// No thumbnail is larger, in bytes.
const LARGEST: u64 = 1 << 20;
/// What shows through transparent pictures.
const PAPER: u8 = 255;

/// A picture of at most `side` pixels a side as a JPEG.
///
/// # Errors
/// What the encoder says.
pub fn jpeg(picture: &Picture, side: u32, quality: u8) -> Result<Vec<u8>, String> {
    let small = shrink(picture, side);
    let (width, height) = (small.width() as usize, small.height() as usize);
    let encoder = Encoder::new(small.as_raw(), width, height, PixelFormat::Rgb);
    encoder.quality(quality).encode().map_err(|e| e.to_string())
}

/// A picture of at most `side` pixels a side, on white where it is transparent.
pub fn shrink(picture: &Picture, side: u32) -> RgbImage {
    let over = |sample: u8, opacity: u8| {
        let (sample, opacity) = (u32::from(sample), u32::from(opacity));
        ((sample * opacity + u32::from(PAPER) * (255 - opacity) + 127) / 255) as u8
    };
    let samples = match picture.pixels() {
        Pixels::Rgba(samples) => samples
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&[r, g, b, a]| [over(r, a), over(g, a), over(b, a)])
            .collect(),
        pixels => pixels.bytes().to_vec(),
    };
    let (width, height) = (picture.width(), picture.height());
    let image = RgbImage::from_raw(width, height, samples).expect("a picture has all its samples");
    let longest = width.max(height);
    if longest <= side {
        return image;
    }
    let scaled = |length: u32| {
        let length = u64::from(length) * u64::from(side) / u64::from(longest);
        u32::try_from(length).unwrap_or(side).max(1)
    };
    imageops::thumbnail(&image, scaled(width), scaled(height))
}

/// Where the thumbnail of a row is: by a digest, so that no key leaves the folder.
pub fn path(index: &Path, key: &[u8]) -> PathBuf {
    let digest = Sha256::digest(key);
    let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    index.join(FOLDER).join(&name[..2]).join(format!("{}.jpg", &name[2..]))
}

/// Keeps the thumbnail of a row.
///
/// # Errors
/// What the operating system says.
pub fn write(index: &Path, key: &[u8], jpeg: &[u8]) -> io::Result<()> {
    let path = path(index, key);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, jpeg).and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The thumbnail of a row, if one is kept.
pub fn read(index: &Path, key: &[u8]) -> Option<Vec<u8>> {
    let path = path(index, key);
    let length = std::fs::metadata(&path).ok()?.len();
    if length > LARGEST { None } else { std::fs::read(path).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_shrink_in_proportion_and_lie_on_white() {
        let clear = Picture::new(1000, 10, Pixels::Rgba(vec![0; 40_000])).unwrap();
        let small = shrink(&clear, 480);
        assert_eq!(small.dimensions(), (480, 4));
        assert!(small.as_raw().iter().all(|&sample| sample == 255));
        let line = Picture::new(1, 5000, Pixels::Rgb(vec![7; 15_000])).unwrap();
        assert_eq!(shrink(&line, 480).dimensions(), (1, 480));
        let dot = Picture::new(1, 1, Pixels::Rgb(vec![1, 2, 3])).unwrap();
        assert_eq!(shrink(&dot, 480).as_raw(), &[1, 2, 3]);
    }

    #[test]
    fn a_thumbnail_is_read_back_and_no_key_leaves_the_folder() {
        let index = tempfile::tempdir().unwrap();
        for key in [&b"../../etc/passwd"[..], b"/etc/passwd", b"a\0b", b""] {
            assert!(path(index.path(), key).starts_with(index.path().join(FOLDER)));
            assert_eq!(path(index.path(), key).components().count(), {
                index.path().components().count() + 3
            });
            assert_eq!(read(index.path(), key), None);
            write(index.path(), key, b"jpeg").unwrap();
            assert_eq!(read(index.path(), key).as_deref(), Some(&b"jpeg"[..]));
        }
    }
}
