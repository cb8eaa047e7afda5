//! From whatever samples a file holds to an upright picture of 8-bit RGB or RGBA.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};

use crate::picture::frame::{Picture, Pixels};

/// Converts and turns. Of 16-bit samples the high byte is kept, as Pillow's `RGB;16B` does; grey
/// is repeated in the three channels.
pub(super) fn upright_8_bit(decoded: DynamicImage, orientation: Orientation) -> Picture {
    let mut image = match decoded {
        DynamicImage::ImageLuma16(grey) => {
            rgb(grey.width(), grey.height(), grey.iter().flat_map(|&value| [high(value); 3]))
        }
        DynamicImage::ImageRgb16(deep) => {
            rgb(deep.width(), deep.height(), deep.iter().map(|&value| high(value)))
        }
        DynamicImage::ImageLumaA16(grey) => rgba(
            grey.width(),
            grey.height(),
            grey.pixels().flat_map(|&image::LumaA([value, opacity])| {
                [high(value), high(value), high(value), high(opacity)]
            }),
        ),
        DynamicImage::ImageRgba16(deep) => {
            rgba(deep.width(), deep.height(), deep.iter().map(|&value| high(value)))
        }
        other if other.color().has_alpha() => with_alpha(other.into_rgba8()),
        other => DynamicImage::ImageRgb8(other.into_rgb8()),
    };
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let pixels = match image {
        DynamicImage::ImageRgba8(image) => Pixels::Rgba(image.into_raw()),
        other => Pixels::Rgb(other.into_rgb8().into_raw()),
    };
    Picture::new(width, height, pixels).expect("a decoded image has all its samples")
}

/// CMYK inks, four bytes a pixel, to RGB in the plain way that Pillow does it: each ink takes its
/// share of what black leaves.
pub(super) fn rgb_of_inks(inks: &[u8]) -> Vec<u8> {
    let (pixels, _) = inks.as_chunks::<4>();
    let light = |[cyan, magenta, yellow, black]: [u8; 4]| {
        let left = 255 - black;
        [cyan, magenta, yellow].map(|ink| left - rounded_share(ink, left))
    };
    pixels.iter().flat_map(|&pixel| light(pixel)).collect()
}

/// `a * b / 255`, rounded to the nearest.
fn rounded_share(a: u8, b: u8) -> u8 {
    ((u32::from(a) * u32::from(b) + 127) / 255) as u8
}

/// Drops an alpha channel that is solid throughout, as GIF and WebP often have.
fn with_alpha(image: RgbaImage) -> DynamicImage {
    let image = DynamicImage::ImageRgba8(image);
    let solid = image.as_bytes().iter().skip(3).step_by(4).all(|&opacity| opacity == 255);
    if solid { DynamicImage::ImageRgb8(image.into_rgb8()) } else { image }
}

fn high(value: u16) -> u8 {
    (value >> 8) as u8
}

fn rgb(width: u32, height: u32, samples: impl Iterator<Item = u8>) -> DynamicImage {
    let image = RgbImage::from_raw(width, height, samples.collect());
    image.expect("three samples a pixel").into()
}

fn rgba(width: u32, height: u32, samples: impl Iterator<Item = u8>) -> DynamicImage {
    let image = RgbaImage::from_raw(width, height, samples.collect());
    with_alpha(image.expect("four samples a pixel"))
}
