//! Hiding what is around a thing.

use image::RgbImage;
use image::imageops::fast_blur;

use super::heat::Region;
use crate::picture::{Picture, Pixels};

/// Standard deviation of the blur, as a part of the longer side.
const STRENGTH: f32 = 0.06;

/// The picture with everything outside of `region` blurred beyond recognition; opaque. What a
/// model's answer changes by is what it owes to the surroundings.
pub fn blur_outside(picture: &Picture, region: Region) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let channels = picture.pixels().channels();
    let pixels = picture.pixels().bytes().chunks_exact(channels);
    let sharp: Vec<u8> = pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let image = RgbImage::from_raw(width, height, sharp.clone())
        .expect("a picture holds at least three bytes a pixel");
    let deviation = (width.max(height) as f32 * STRENGTH).max(0.5);
    let mut bytes = fast_blur(&image, deviation).into_raw();
    let (right, bottom) =
        (region.x.saturating_add(region.width).min(width), region.y.saturating_add(region.height));
    for row in region.y.min(height)..bottom.min(height) {
        let at = |column: u32| (row as usize * width as usize + column as usize) * 3;
        let inside = at(region.x.min(right))..at(right);
        bytes[inside.clone()].copy_from_slice(&sharp[inside]);
    }
    Picture::new(width, height, Pixels::Rgb(bytes)).expect("as many pixels as before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outside_changes() {
        let checker =
            |i: u32| if (i % 40 + i / 40).is_multiple_of(2) { [255u8; 3] } else { [0; 3] };
        let bytes: Vec<u8> = (0..40 * 30).flat_map(checker).collect();
        let picture = Picture::new(40, 30, Pixels::Rgb(bytes)).unwrap();
        let region = Region { x: 10, y: 5, width: 8, height: 90 };
        let blurred = blur_outside(&picture, region);
        let pixel =
            |picture: &Picture, x: usize, y: usize| picture.pixels().bytes()[(y * 40 + x) * 3];
        for (x, y) in [(10, 5), (17, 29), (12, 20)] {
            assert_eq!(pixel(&picture, x, y), pixel(&blurred, x, y));
        }
        assert!((60..200).contains(&pixel(&blurred, 30, 15)));
        let nothing = Region { x: 99, y: 99, width: 1, height: 1 };
        assert_eq!(blur_outside(&picture, nothing).width(), 40);
    }
}
