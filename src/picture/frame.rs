//! A decoded picture.

/// The samples of a [`Picture`]: row by row from the top, channels interleaved, no padding.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pixels {
    /// Three bytes a pixel: red, green, blue.
    Rgb(Vec<u8>),
    /// Four bytes a pixel: red, green, blue, and opacity (not premultiplied).
    Rgba(Vec<u8>),
}

impl Pixels {
    /// Bytes a pixel: 3 or 4.
    pub fn channels(&self) -> usize {
        match self {
            Self::Rgb(_) => 3,
            Self::Rgba(_) => 4,
        }
    }

    /// The samples.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Rgb(bytes) | Self::Rgba(bytes) => bytes,
        }
    }
}

/// An upright picture of 8-bit samples in the file's own colours (profiles are not applied).
///
/// Transparency is kept: what lies under it is the model's to say, so it is filled in by
/// [`Preprocess::pixels`](super::Preprocess::pixels).
///
/// ```
/// use sextant::picture::{Picture, Pixels};
/// let red = Picture::new(2, 1, Pixels::Rgb(vec![255, 0, 0, 255, 0, 0])).unwrap();
/// assert_eq!((red.width(), red.height()), (2, 1));
/// assert!(Picture::new(2, 2, Pixels::Rgb(vec![0; 6])).is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Pixels,
}

impl Picture {
    /// Wraps samples, for instance of a camera frame.
    ///
    /// # Errors
    /// [`PictureError::ZeroSized`] and [`PictureError::Length`].
    pub fn new(width: u32, height: u32, pixels: Pixels) -> Result<Self, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::ZeroSized { width, height });
        }
        let expected = u64::from(width)
            .checked_mul(u64::from(height))
            .and_then(|count| count.checked_mul(pixels.channels() as u64));
        let actual = pixels.bytes().len();
        if expected != Some(actual as u64) {
            return Err(PictureError::Length {
                width,
                height,
                channels: pixels.channels(),
                actual,
            });
        }
        Ok(Self { width, height, pixels })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (width, height, channels) = (self.width, self.height, self.pixels.channels());
        write!(f, "Picture({width}×{height}, {channels} channels)")
    }
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} bytes, {} channels)", self.bytes().len(), self.channels())
    }
}

/// Why samples are no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A side is zero.
    #[error("a picture of {width}×{height} pixels has nothing in it")]
    ZeroSized {
        /// Width given.
        width: u32,
        /// Height given.
        height: u32,
    },
    /// The number of samples is not what the size asks for.
    #[error("{width}×{height} pixels of {channels} bytes do not make {actual} bytes")]
    Length {
        /// Width given.
        width: u32,
        /// Height given.
        height: u32,
        /// Bytes a pixel.
        channels: usize,
        /// Bytes given.
        actual: usize,
    },
}
