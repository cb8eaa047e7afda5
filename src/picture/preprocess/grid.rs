//! The tower's input as pixels.

/// Pixels at the size of an image tower's input: 8-bit RGB, row by row, channels interleaved.
///
/// Made by [`Preprocess::pixels`](super::Preprocess::pixels) only, so its size is the tower's.
#[derive(Clone, PartialEq, Eq)]
pub struct PixelGrid {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl PixelGrid {
    /// A grid of one colour.
    pub(super) fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        Self { width, height, bytes: colour.repeat(width as usize * height as usize) }
    }

    /// Wraps `3 * width * height` samples.
    pub(super) fn from_samples(width: u32, height: u32, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(bytes.len(), 3 * width as usize * height as usize);
        Self { width, height, bytes }
    }

    /// Copies rows of `width` pixels into the grid at (`left`, `top`); they must fit.
    pub(super) fn place(&mut self, left: u32, top: u32, width: u32, samples: &[u8]) {
        let (row, left) = (3 * self.width as usize, 3 * left as usize);
        let rows = self.bytes.chunks_exact_mut(row).skip(top as usize);
        for (target, source) in rows.zip(samples.chunks_exact(3 * width as usize)) {
            target[left..left + source.len()].copy_from_slice(source);
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples: `3 * width * height` bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for PixelGrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PixelGrid({}×{})", self.width, self.height)
    }
}
