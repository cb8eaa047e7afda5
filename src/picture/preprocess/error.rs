//! What can be wrong with a preprocessing declaration.

use super::spec::MAX_SIDE;

/// Why a declaration of preprocessing is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// A side of `resize_size` is out of range.
    #[error("resize_size: {0} is not between 1 and {MAX_SIDE}")]
    ResizeSize(u32),
    /// A side of `crop` is out of range.
    #[error("crop: {0} is not between 1 and {MAX_SIDE}")]
    Crop(u32),
    /// A mean is no finite number.
    #[error("mean: {0} is not a finite number")]
    Mean(f32),
    /// A standard deviation cannot be divided by.
    #[error("std: {0} is not a finite number above zero")]
    Std(f32),
}
