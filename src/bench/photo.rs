//! A picture to measure with, where none is given.

use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

/// A JPEG of waves, edges and a little noise, as large as a camera's at quality 90 with 4:2:0
/// colour: decoding time depends on how much is in a picture.
///
/// Each side is at least 16 pixels.
pub fn synthetic_jpeg(width: usize, height: usize) -> Vec<u8> {
    let mut noise = 1u32;
    let mut samples = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let wave = ((x as f32 / 37.0).sin() * (y as f32 / 53.0).cos() * 80.0) as i32;
            let edge = if (x / 64 + y / 48) % 2 == 0 { 30 } else { -30 };
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let level = 128 + wave + edge + (noise >> 29) as i32;
            samples.extend([level, level + 9, level - 17].map(|value| value.clamp(0, 255) as u8));
        }
    }
    compress(&samples, width, height, PixelFormat::Rgb, 90, Subsampling::S420)
        .expect("the samples fill the picture")
}

#[cfg(test)]
mod tests {
    use crate::picture::{DecodeLimits, decode_bytes};

    #[test]
    fn it_is_a_picture_of_that_size() {
        let jpeg = super::synthetic_jpeg(70, 33);
        let picture = decode_bytes(&jpeg, "synthetic", &DecodeLimits::default()).unwrap();
        assert_eq!((picture.width(), picture.height()), (70, 33));
    }
}
