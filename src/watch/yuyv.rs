//! YUYV frames: what most cameras give uncompressed. Four bytes are two pixels side by side, each
//! with a luma sample of its own and with one pair of colour samples for both.

use super::colour::Bt601;
use crate::picture::{Picture, Pixels};

/// A frame as a camera's driver leaves it.
#[derive(Debug)]
pub(super) struct Yuyv {
    pub width: u32,
    pub height: u32,
    /// Bytes from the start of a row to that of the next.
    pub stride: usize,
    pub full_range: bool,
    pub bytes: Vec<u8>,
}

impl Yuyv {
    /// The frame in RGB; `None` where there are fewer bytes than its size needs.
    pub fn picture(&self) -> Option<Picture> {
        let (width, height) = (self.width as usize, self.height as usize);
        let row_bytes = width.checked_next_multiple_of(2)?.checked_mul(2)?;
        let before_last = self.stride.checked_mul(height.checked_sub(1)?)?;
        if self.stride < row_bytes || self.bytes.len() < before_last.checked_add(row_bytes)? {
            return None;
        }
        let convert = Bt601::new(self.full_range);
        let mut rgb = Vec::with_capacity(width.checked_mul(height)?.checked_mul(3)?);
        for row in self.bytes.chunks(self.stride).take(height) {
            let (pairs, _) = row[..row_bytes].as_chunks::<4>();
            for &[first, u, second, v] in pairs {
                rgb.extend(convert.rgb(first, u, v));
                rgb.extend(convert.rgb(second, u, v));
            }
            // An odd width leaves the second pixel of the last pair unused.
            rgb.truncate(rgb.len() - 3 * (width % 2));
        }
        Picture::new(self.width, self.height, Pixels::Rgb(rgb)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/scripts/yuyv_reference.py` makes these with OpenCV.
    const FRAME: &[u8] = include_bytes!("../../tests/data/yuyv/frame.yuyv");
    const EXPECTED: &[u8] = include_bytes!("../../tests/data/yuyv/frame.rgb");

    fn frame(width: u32, height: u32, stride: usize, bytes: &[u8]) -> Yuyv {
        Yuyv { width, height, stride, full_range: false, bytes: bytes.to_vec() }
    }

    #[test]
    fn colours_are_those_of_opencv() {
        let picture = frame(16, 12, 32, FRAME).picture().unwrap();
        let pairs = picture.pixels().bytes().iter().zip(EXPECTED);
        let furthest = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(picture.pixels().bytes().len(), EXPECTED.len());
        assert!(furthest <= Some(1), "{furthest:?} levels apart");
    }

    #[test]
    fn padding_at_the_end_of_rows_is_left_out() {
        let mut padded = Vec::new();
        for row in FRAME.chunks(32) {
            padded.extend(row);
            padded.extend([99; 16]);
        }
        let plain = frame(16, 12, 32, FRAME).picture();
        assert_eq!(frame(16, 12, 48, &padded).picture(), plain);
        // The last row needs no padding.
        padded.truncate(padded.len() - 16);
        assert_eq!(frame(16, 12, 48, &padded).picture(), plain);
    }

    #[test]
    fn frames_that_are_too_short_are_none() {
        assert_eq!(frame(16, 12, 32, &FRAME[..FRAME.len() - 1]).picture(), None);
        assert_eq!(frame(16, 12, 30, FRAME).picture(), None);
        assert_eq!(frame(16, 0, 32, FRAME).picture(), None);
        assert_eq!(frame(u32::MAX, u32::MAX, usize::MAX, FRAME).picture(), None);
        assert_eq!(frame(3, 1, 8, FRAME).picture().unwrap().pixels().bytes().len(), 9);
    }
}
