//! [`Picture`](super::Picture) to tower input, as a model package declares it.

mod error;
mod geometry;
mod grid;
mod kernel;
mod planes;
mod resample;
mod spec;

use serde::{Deserialize, Serialize};

use super::frame::Picture;
pub use error::PreprocessError;
use geometry::Window;
pub use grid::PixelGrid;
pub(crate) use planes::PlaneBuffers;
pub use resample::ResizeBuffers;
pub use spec::{Interpolation, PreprocessSpec, ResizeMode};

/// A checked [`PreprocessSpec`], ready to use.
///
/// Pixels are those of the usual Python pipeline: Pillow's `resize`, byte for byte (version 13), within
/// torchvision's and open_clip's sizes and crops. In two places it differs on purpose: transparent
/// pictures are first laid over [`PreprocessSpec::background`] where Pillow's `convert("RGB")`
/// shows whatever colour hides under full transparency, and every picture is turned into RGB
/// before it is resized, since resized palette numbers mean nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PreprocessSpec", into = "PreprocessSpec")]
pub struct Preprocess {
    spec: PreprocessSpec,
}

impl Preprocess {
    /// Checks a declaration.
    ///
    /// # Errors
    /// Any [`PreprocessError`].
    pub fn new(spec: PreprocessSpec) -> Result<Self, PreprocessError> {
        spec.check()?;
        Ok(Self { spec })
    }

    /// The declaration.
    pub fn spec(&self) -> &PreprocessSpec {
        &self.spec
    }

    /// Width and height of what [`Preprocess::pixels`] gives, 1 to 4096 each.
    pub fn output_size(&self) -> (u32, u32) {
        let [width, height] = self.output();
        (width, height)
    }

    /// The declaration as one line in which every value that decides a pixel or a number stands,
    /// always the same way: part of a space's fingerprint.
    pub fn canonical(&self) -> String {
        let PreprocessSpec {
            resize, resize_size, interpolation, mean, std, fill, background, ..
        } = &self.spec;
        let output = self.output();
        format!(
            "{resize:?} {resize_size:?} {output:?} {interpolation:?} {mean:?} {std:?} {fill:?} \
             {background:?}"
        )
    }

    /// Resizes a picture and cuts or fills it to [`Preprocess::output_size`].
    ///
    /// Only the part that stays is computed, so that a picture of 1×5000 pixels is no work. It
    /// cannot fail: whatever a picture's size, there is an answer.
    pub fn pixels(&self, picture: &Picture) -> PixelGrid {
        self.pixels_with(picture, &mut ResizeBuffers::default())
    }

    /// The same with buffers of the caller's: quicker for many pictures of one size.
    pub fn pixels_with(&self, picture: &Picture, buffers: &mut ResizeBuffers) -> PixelGrid {
        let output = self.output();
        let size = [picture.width(), picture.height()];
        let windows = geometry::windows(self.spec.resize, size, self.spec.resize_size, output);
        let samples = resample::resample(picture, windows, &self.spec, buffers);
        self.framed(windows, samples)
    }

    /// The tower's square around the pixels of both windows.
    fn framed(&self, [across, down]: [Window; 2], samples: Vec<u8>) -> PixelGrid {
        let output = self.output();
        if [across.length, down.length] == output {
            return PixelGrid::from_samples(output[0], output[1], samples);
        }
        let mut grid = PixelGrid::filled(output[0], output[1], self.spec.fill);
        grid.place(across.offset, down.offset, across.length, &samples);
        grid
    }

    /// The tower's input: `(value / 255 - mean) / std` for each channel, in planes (red, green,
    /// blue), each row by row; `3 * width * height` numbers.
    pub fn tensor(&self, pixels: &PixelGrid) -> Vec<f32> {
        let mut values = Vec::with_capacity(pixels.bytes().len());
        for channel in 0..3 {
            let (mean, std) = (self.spec.mean[channel], self.spec.std[channel]);
            let table: [f32; 256] =
                std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
            let (colours, _) = pixels.bytes().as_chunks::<3>();
            values.extend(colours.iter().map(|colour| table[usize::from(colour[channel])]));
        }
        values
    }

    fn output(&self) -> [u32; 2] {
        self.spec.crop.unwrap_or(self.spec.resize_size)
    }
}

impl TryFrom<PreprocessSpec> for Preprocess {
    type Error = PreprocessError;

    fn try_from(spec: PreprocessSpec) -> Result<Self, Self::Error> {
        Self::new(spec)
    }
}

impl From<Preprocess> for PreprocessSpec {
    fn from(checked: Preprocess) -> Self {
        checked.spec
    }
}
