//! JPEG, decoded to the very samples of libjpeg-turbo, which Pillow uses.
//!
//! The decoder of the `image` crate rounds elsewhere in the upsampling of colour and ends up to
//! six levels away; this one is a port of libjpeg-turbo and is compared with it bit for bit.
//! Scaled decoding (a quarter of the work for a photo four times too large) is left alone: it
//! gives other pixels than the model was trained on.
//!
//! A file that is cut short is refused. Decoders fill what is missing with grey and report success,
//! and a picture that is half grey gets confident wrong labels, so the file's skeleton is walked
//! first, as in ITU-T T.81 annex B: marker segments have lengths, entropy-coded data runs to the
//! next marker, and a complete file reaches the end-of-image marker.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use libjpeg_turbo_rs::{ColorSpace, ComponentInfo, Decoder, JpegError, PixelFormat};

use super::{DecodeError, DecodeLimits, check_size, reduce};
use crate::kernel::PlaneColours;
use crate::picture::planes::{Plane, Planes};

const FORMAT: &str = "JPEG";

/// Most scans of a progressive file: encoders make ten or so, and each may touch every pixel.
const MAX_SCANS: usize = 200;

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Decodes a JPEG file; the orientation is still to be applied.
pub(super) fn decode(
    bytes: &[u8],
    name: &str,
    limits: &DecodeLimits,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    let failed = |error| translate(error, name);
    let mut decoder = open(bytes, name, limits)?;
    if !has_usual_sampling(&decoder) {
        let reason = "its inks are sampled in an unusual way".to_owned();
        return Err(DecodeError::Unsupported { name: name.to_owned(), format: FORMAT, reason });
    }
    let orientation = decoder.exif_orientation().and_then(Orientation::from_exif);
    let (width, height) = (decoder.header().width.into(), decoder.header().height.into());
    let inks = matches!(decoder.jpeg_color_space(), ColorSpace::Cmyk | ColorSpace::Ycck);
    decoder.set_output_format(if inks { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let mut samples = decoder.decode_image().map_err(failed)?.data;
    if inks {
        // Stored inverted, as Adobe does it; Pillow takes that for granted, and so do we.
        samples.iter_mut().for_each(|ink| *ink = 255 - *ink);
        samples = reduce::rgb_of_inks(&samples);
    }
    let image = RgbImage::from_raw(width, height, samples).ok_or_else(|| {
        let reason = "the decoder gave another size than the header".to_owned();
        DecodeError::Corrupt { name: name.to_owned(), format: FORMAT, reason }
    })?;
    Ok((image.into(), orientation.unwrap_or(Orientation::NoTransforms)))
}

/// A decoder that has read the header of a file which is whole and not too large.
fn open<'a>(
    bytes: &'a [u8],
    name: &str,
    limits: &DecodeLimits,
) -> Result<Decoder<'a>, DecodeError> {
    let parse_limits = libjpeg_turbo_rs::DecodeLimits {
        max_width: usize::from(u16::MAX),
        max_height: usize::from(u16::MAX),
        max_pixels: limits.max_pixels,
        max_scans: MAX_SCANS,
        max_memory: None,
    };
    let decoder = Decoder::new_with_limits(bytes, parse_limits);
    let decoder = decoder.map_err(|error| translate(error, name))?;
    let (width, height) = (decoder.header().width.into(), decoder.header().height.into());
    check_size((width, height), name, limits)?;
    if !is_complete(bytes) {
        return Err(DecodeError::Truncated { name: name.to_owned(), format: FORMAT });
    }
    Ok(decoder)
}

/// Decodes a JPEG file to its planes of luma and colour, which saves a third of the work and what it
/// takes to resize a picture. `None` where it has others, or is not upright, or its planes have
/// sizes that do not divide its own: see [`decode`].
///
/// # Errors
/// As [`super::decode_bytes`] for a JPEG file.
pub(crate) fn decode_planes(
    bytes: &[u8],
    name: &str,
    limits: &DecodeLimits,
) -> Result<Option<Planes>, DecodeError> {
    let decoder = open(bytes, name, limits)?;
    let upright = decoder.exif_orientation().is_none_or(|orientation| orientation == 1);
    let size = [decoder.header().width, decoder.header().height].map(u32::from);
    let fits = |shared: &[u32; 2]| [0, 1].iter().all(|&i| size[i].is_multiple_of(shared[i]));
    let Some(shared) = colour_sampling(&decoder).filter(|shared| upright && fits(shared)) else {
        return Ok(None);
    };
    let raw = decoder.decode_raw().map_err(|error| translate(error, name))?;
    let planes = raw.planes.into_iter().zip(raw.plane_widths);
    let mut planes = planes.map(|(samples, stride)| Plane { samples, stride });
    let Some(luma) = planes.next() else { return Ok(None) };
    let colour = planes.next().zip(planes.next()).map(|(blue, red)| [blue, red]);
    Ok(Planes::new(size, luma, colour, shared, PlaneColours::Full))
}

/// Pixels across and down that share a sample of colour, in files of luma and two planes of one
/// sampling, or of luma alone.
fn colour_sampling(decoder: &Decoder<'_>) -> Option<[u32; 2]> {
    let sampling =
        |plane: &ComponentInfo| [plane.horizontal_sampling, plane.vertical_sampling].map(u32::from);
    let planes = decoder.header().components.as_slice();
    match (decoder.jpeg_color_space(), planes) {
        (ColorSpace::Grayscale, [luma]) if sampling(luma) == [1, 1] => Some([1, 1]),
        (ColorSpace::YCbCr, [luma, blue, red]) if sampling(blue) == sampling(red) => {
            let ([across, down], [coarse_across, coarse_down]) = (sampling(luma), sampling(blue));
            let whole =
                across.checked_rem(coarse_across)? == 0 && down.checked_rem(coarse_down)? == 0;
            whole.then(|| [across / coarse_across, down / coarse_down])
        }
        _ => None,
    }
}

/// Whether the planes of a four-ink picture have sizes that the decoder can combine: the first and
/// the last in full, the two between alike and a whole number of times smaller. It takes that for
/// granted and would index beyond a plane; pictures of fewer planes it checks itself.
fn has_usual_sampling(decoder: &Decoder<'_>) -> bool {
    let planes = &decoder.header().components;
    let [first, second, third, last] = planes.as_slice() else { return true };
    let sampling = |plane: &ComponentInfo| (plane.horizontal_sampling, plane.vertical_sampling);
    let ((across, down), (coarse_across, coarse_down)) = (sampling(first), sampling(second));
    sampling(last) == (across, down)
        && sampling(third) == (coarse_across, coarse_down)
        && across.checked_rem(coarse_across) == Some(0)
        && down.checked_rem(coarse_down) == Some(0)
}

/// The decoder's error in our words: which of our rules it amounts to.
fn translate(error: JpegError, name: &str) -> DecodeError {
    let name = name.to_owned();
    match error {
        JpegError::UnexpectedEof => DecodeError::Truncated { name, format: FORMAT },
        JpegError::Unsupported(reason) => DecodeError::Unsupported { name, format: FORMAT, reason },
        JpegError::LimitExceeded { .. } | JpegError::AllocationFailed { .. } => {
            DecodeError::TooMuchMemory { name, format: FORMAT }
        }
        other => DecodeError::Corrupt { name, format: FORMAT, reason: other.to_string() },
    }
}

/// Whether the first picture in `bytes` (which begin with a start-of-image marker) reaches its
/// end-of-image marker. What follows that, such as the further pictures of a multi-picture file,
/// does not matter.
fn is_complete(bytes: &[u8]) -> bool {
    let mut position = 2;
    while let Some(marker) = next_marker(bytes, &mut position) {
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a segment: TEM, RST0 to RST7, SOI.
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(length) = bytes.get(position..position + 2) else { return false };
                // A length counts itself; a smaller one is damage, which the decoder reports.
                position += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                if marker == START_OF_SCAN {
                    skip_entropy_coded(bytes, &mut position);
                }
            }
        }
    }
    false
}

/// Moves behind the next marker and gives its second byte.
fn next_marker(bytes: &[u8], position: &mut usize) -> Option<u8> {
    loop {
        *position += bytes.get(*position..)?.iter().position(|&byte| byte == 0xFF)?;
        // Any number of fill bytes 0xFF may stand before a marker.
        *position += bytes[*position..].iter().position(|&byte| byte != 0xFF)?;
        let code = bytes[*position];
        *position += 1;
        if code != 0 {
            return Some(code);
        }
    }
}

/// Moves to the first marker that ends a scan: 0xFF00 is a data byte and RST0 to RST7 stand
/// inside a scan.
fn skip_entropy_coded(bytes: &[u8], position: &mut usize) {
    while let Some(offset) =
        bytes.get(*position..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF))
    {
        *position += offset;
        match bytes.get(*position + 1) {
            Some(0 | 0xD0..=0xD7) => *position += 2,
            Some(0xFF) => *position += 1,
            _ => return,
        }
    }
    *position = bytes.len();
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn end_marker_counts_only_outside_segments_and_data() {
        let header = [0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 3, 9];
        let with = |tail: &[u8]| [&header, tail].concat();
        assert!(is_complete(&with(&[1, 0xFF, 0, 2, 0xFF, 0xD0, 3, 0xFF, 0xFF, 0xD9])));
        assert!(is_complete(&with(&[0xFF, 0xD9, 7, 7])));
        assert!(!is_complete(&with(&[1, 2, 3])));
        assert!(!is_complete(&with(&[1, 0xFF, 0, 0xD9])));
        assert!(!is_complete(&with(&[1, 0xFF])));
        assert!(!is_complete(&header[..5]));
        assert!(!is_complete(&header[..8]));
        assert!(!is_complete(&[]));
    }
}
