//! YUYV frames: what most cameras give uncompressed. Four bytes are two pixels side by side, each
//! with a luma sample of its own and with one pair of colour samples for both.

use crate::kernel::PlaneColours;
use crate::picture::{Plane, Planes};

/// A frame as a camera's driver leaves it.
#[derive(Debug)]
pub(super) struct Yuyv {
    pub width: u32,
    pub height: u32,
    /// Bytes from the start of a row to that of the next.
    pub stride: usize,
    pub colours: PlaneColours,
    pub bytes: Vec<u8>,
}

impl Yuyv {
    /// The frame's planes; `None` where there are fewer bytes than its size needs.
    pub fn planes(&self) -> Option<Planes> {
        let (width, height) = (self.width as usize, self.height as usize);
        let pairs = width.div_ceil(2);
        let row_bytes = pairs.checked_mul(4)?;
        let before_last = self.stride.checked_mul(height.checked_sub(1)?)?;
        if self.stride < row_bytes || self.bytes.len() < before_last.checked_add(row_bytes)? {
            return None;
        }
        let plane = |stride: usize| Plane { samples: vec![0; stride * height], stride };
        let (mut luma, mut colour) = (plane(2 * pairs), [plane(pairs), plane(pairs)]);
        let [blue, red] = &mut colour;
        let colours = blue.samples.chunks_mut(pairs).zip(red.samples.chunks_mut(pairs));
        let places = luma.samples.chunks_mut(2 * pairs).zip(colours);
        for (row, (luma, (blue, red))) in self.bytes.chunks(self.stride).zip(places) {
            let (luma, _) = luma.as_chunks_mut::<2>();
            let places = luma.iter_mut().zip(blue.iter_mut().zip(red));
            for (&[first, u, second, v], (luma, (blue, red))) in
                row[..row_bytes].as_chunks::<4>().0.iter().zip(places)
            {
                (*luma, *blue, *red) = ([first, second], u, v);
            }
        }
        // An odd width leaves the second pixel of the last pair unused.
        Planes::new([self.width, self.height], luma, Some(colour), [2, 1], self.colours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/scripts/yuyv_reference.py` makes these with OpenCV.
    const FRAME: &[u8] = include_bytes!("../../tests/data/yuyv/frame.yuyv");
    const EXPECTED: &[u8] = include_bytes!("../../tests/data/yuyv/frame.rgb");

    fn frame(width: u32, height: u32, stride: usize, bytes: &[u8]) -> Yuyv {
        let colours = PlaneColours::Television;
        Yuyv { width, height, stride, colours, bytes: bytes.to_vec() }
    }

    #[test]
    fn colours_are_those_of_opencv() {
        let picture = frame(16, 12, 32, FRAME).planes().unwrap().picture();
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
        let plain = frame(16, 12, 32, FRAME).planes();
        assert_eq!(frame(16, 12, 48, &padded).planes(), plain);
        // The last row needs no padding.
        padded.truncate(padded.len() - 16);
        assert_eq!(frame(16, 12, 48, &padded).planes(), plain);
    }

    #[test]
    fn frames_that_are_too_short_are_none() {
        assert_eq!(frame(16, 12, 32, &FRAME[..FRAME.len() - 1]).planes(), None);
        assert_eq!(frame(16, 12, 30, FRAME).planes(), None);
        assert_eq!(frame(16, 0, 32, FRAME).planes(), None);
        assert_eq!(frame(u32::MAX, u32::MAX, usize::MAX, FRAME).planes(), None);
        assert_eq!(frame(3, 1, 8, FRAME).planes().unwrap().picture().pixels().bytes().len(), 9);
    }
}
