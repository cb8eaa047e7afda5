//! Two kinds of TIFF that the `image` crate reads wrongly or not at all: palettes and CMYK.
//!
//! Both hold ordinary samples that only mean something else. So the file is read with another
//! declaration of its samples, and they get their meaning here.

use image::{DynamicImage, RgbImage};

use super::reduce;

/// TIFF 6.0: the tag that says what samples mean, and the values of interest.
const PHOTOMETRIC: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
const RGB: u16 = 2;
const PALETTE: u16 = 3;
const INKS: u16 = 5;
/// The tag of the palette: all reds, all greens, all blues, 16 bits each.
const COLOUR_MAP: u16 = 320;

/// What the samples of a re-declared file mean.
pub(super) enum Meaning {
    /// Grey samples are numbers of these colours.
    Palette(Vec<[u8; 3]>),
    /// Red, green, blue and alpha are cyan, magenta, yellow and black.
    Inks,
}

/// A copy of a palette or CMYK file that declares its samples as grey or RGBA, and what they mean.
pub(super) fn redeclare(bytes: &[u8]) -> Option<(Vec<u8>, Meaning)> {
    let directory = Directory::first(bytes)?;
    let photometric = directory.entry(PHOTOMETRIC)?;
    let (meaning, stand_in) = match directory.short(photometric + 8)? {
        PALETTE => (Meaning::Palette(directory.palette().unwrap_or_default()), BLACK_IS_ZERO),
        INKS => (Meaning::Inks, RGB),
        _ => return None,
    };
    let mut copy = bytes.to_vec();
    let value = if directory.big_endian { stand_in.to_be_bytes() } else { stand_in.to_le_bytes() };
    copy.get_mut(photometric + 8..photometric + 10)?.copy_from_slice(&value);
    Some((copy, meaning))
}

impl Meaning {
    /// Whether the palette lies beyond the end of the file.
    pub(super) fn is_cut_short(&self) -> bool {
        matches!(self, Self::Palette(colours) if colours.is_empty())
    }

    /// The colours of a decoded file; `None` if its samples are not of 8 bits, or a number has no
    /// colour.
    pub(super) fn colours(&self, decoded: &DynamicImage) -> Option<DynamicImage> {
        let samples = match (self, decoded) {
            (Self::Palette(colours), DynamicImage::ImageLuma8(numbers)) => {
                let colour = |number: &u8| colours.get(usize::from(*number)).copied();
                numbers.iter().map(colour).collect::<Option<Vec<_>>>()?.into_flattened()
            }
            (Self::Inks, DynamicImage::ImageRgba8(inks)) => reduce::rgb_of_inks(inks),
            _ => return None,
        };
        RgbImage::from_raw(decoded.width(), decoded.height(), samples).map(Into::into)
    }
}

/// The first image file directory of a classic TIFF file.
struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    start: usize,
}

impl<'a> Directory<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        let header = Self { bytes, big_endian, start: 0 };
        Some(Self { start: header.long(4)?, ..header })
    }

    /// Where the twelve bytes of a tag stand: tag, type, count, value or offset of the values.
    fn entry(&self, tag: u16) -> Option<usize> {
        let count = usize::from(self.short(self.start)?);
        let mut entries = (0..count).map(|index| self.start + 2 + 12 * index);
        entries.find(|&at| self.short(at) == Some(tag))
    }

    /// The palette; of 16-bit values the high byte is kept, as Pillow does.
    fn palette(&self) -> Option<Vec<[u8; 3]>> {
        let entry = self.entry(COLOUR_MAP)?;
        let colours = self.long(entry + 4)?.min(3 << 16) / 3;
        let values = self.long(entry + 8)?;
        let value = |index: usize| Some((self.short(values.saturating_add(2 * index))? >> 8) as u8);
        let colour = |i: usize| Some([value(i)?, value(colours + i)?, value(2 * colours + i)?]);
        (0..colours).map(colour).collect()
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes: [u8; 2] = self.bytes.get(at..)?.first_chunk().copied()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let bytes: [u8; 4] = self.bytes.get(at..)?.first_chunk().copied()?;
        let value =
            if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(value).ok()
    }
}
