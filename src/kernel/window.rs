//! Where the window of a convolution lies, and pictures of which only some rows are at hand.

use std::ops::Range;

use super::KernelError;

/// Kernel size, stride and padding of a convolution over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Steps between output rows and columns.
    pub stride: [usize; 2],
    /// Rows of padding above the picture and columns left of it.
    pub before: [usize; 2],
    /// Rows of padding below the picture and columns right of it.
    pub after: [usize; 2],
}

/// The largest kernel height and width, and the largest stride.
const MOST_KERNEL: usize = 64;

impl Window {
    /// A square kernel with the same stride and padding in both directions.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], before: [padding; 2], after: [padding; 2] }
    }

    /// A square kernel with TensorFlow's `SAME` padding: as many outputs as there are
    /// strides in the picture, the odd row and column of padding below and on the right.
    pub const fn same(kernel: usize, stride: usize, height: usize, width: usize) -> Self {
        const fn total(kernel: usize, stride: usize, size: usize) -> usize {
            ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size)
        }
        let (y, x) = (total(kernel, stride, height), total(kernel, stride, width));
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            before: [y / 2, x / 2],
            after: [y - y / 2, x - x / 2],
        }
    }

    /// Checks what every window must keep to.
    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let reason = if self.kernel.iter().any(|&k| k == 0 || k > MOST_KERNEL) {
            "the kernel must be 1 to 64 high and wide"
        } else if self.stride.iter().any(|&s| s == 0 || s > MOST_KERNEL) {
            "the stride must be 1 to 64"
        } else if (0..2).any(|i| self.before[i].max(self.after[i]) >= self.kernel[i]) {
            "padding must be smaller than the kernel"
        } else {
            return Ok(());
        };
        Err(KernelError::Window { reason })
    }

    /// Height and width of the output for an input of this height and width; 0 where the
    /// kernel does not fit.
    pub fn output(&self, height: usize, width: usize) -> (usize, usize) {
        let one = |i: usize, size: usize| {
            let padded = size + self.before[i] + self.after[i];
            padded.checked_sub(self.kernel[i]).map_or(0, |room| room / self.stride[i] + 1)
        };
        (one(0, height), one(1, width))
    }

    /// The input rows that a range of output rows looks at, without the padding.
    pub fn input_rows(&self, rows: Range<usize>, height: usize) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let first = (rows.start * self.stride[0]).saturating_sub(self.before[0]).min(height);
        let last = (rows.end - 1) * self.stride[0] + self.kernel[0];
        first..last.saturating_sub(self.before[0]).min(height).max(first)
    }
}

/// Some rows of a picture, channels last: element `(y, x, c)` is at
/// `((y - first_row) · width + x) · channels + c`.
#[derive(Debug, Clone, Copy)]
pub struct Band<'a, T> {
    /// The rows at hand.
    pub data: &'a [T],
    /// The row of the picture that `data` starts with.
    pub first_row: usize,
    /// Height of the whole picture.
    pub height: usize,
    /// Width of the picture.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl<'a, T> Band<'a, T> {
    /// A whole picture.
    ///
    /// # Panics
    /// If the slice has another length.
    pub fn whole(data: &'a [T], height: usize, width: usize, channels: usize) -> Self {
        assert_eq!(data.len(), height * width * channels, "picture has the wrong length");
        Self { data, first_row: 0, height, width, channels }
    }

    /// Checks that the rows needed are at hand, and gives the address where row 0 of the picture
    /// would be (which may lie outside the slice).
    ///
    /// # Panics
    /// If they are not.
    pub(crate) fn check(&self, needed: &Range<usize>) {
        let row = self.width.checked_mul(self.channels).expect("picture row is too long");
        assert!(row > 0, "picture is empty");
        let rows = self.data.len() / row;
        assert!(
            needed.is_empty()
                || needed.start >= self.first_row && needed.end - self.first_row <= rows,
            "rows {needed:?} are needed, but only {rows} from {} are at hand",
            self.first_row
        );
    }
}
