//! What can be wrong with the weights and parameters a kernel is built from.

/// Why a kernel cannot be built from the weights and parameters given.
///
/// Building is where data from a file is checked. Running a kernel on slices of the wrong length
/// is a mistake in the program and panics.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A dimension is zero, or so large that a 32-bit accumulator could overflow.
    #[error("{what} is {value}, but must be 1 to {most}")]
    Dimension {
        /// Which dimension.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The largest allowed.
        most: usize,
    },
    /// An array has the wrong number of elements.
    #[error("{what} has {found} elements, but {expected} are needed")]
    Length {
        /// Which array.
        what: &'static str,
        /// Elements found.
        found: usize,
        /// Elements needed.
        expected: usize,
    },
    /// A weight is -128: symmetric int8 weights run from -127 to 127.
    #[error("weight {index} is -128, but symmetric int8 weights run from -127 to 127")]
    WeightRange {
        /// Position in the weight array.
        index: usize,
    },
    /// A scale, bias or other parameter is not a finite number.
    #[error("{what} {index} is {value}, but must be finite")]
    NotFinite {
        /// Which array.
        what: &'static str,
        /// Position in it.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// A quantisation scale is zero, negative, subnormal or not finite.
    #[error("{what} is {value}, but must be a positive normal number")]
    Scale {
        /// Which scale.
        what: &'static str,
        /// The value found.
        value: f32,
    },
    /// An output scale is so small that results could not be counted in its steps.
    #[error("output scale {scale} is too small: results could be over 2^30 steps")]
    Overflow {
        /// The scale.
        scale: f32,
    },
    /// The clamping range of an output is empty.
    #[error("the output range {low} to {high} is empty")]
    EmptyRange {
        /// Lower end.
        low: f32,
        /// Upper end.
        high: f32,
    },
    /// A window (kernel, stride, padding) cannot be applied.
    #[error("convolution window: {reason}")]
    Window {
        /// The rule broken.
        reason: &'static str,
    },
}

impl KernelError {
    /// Checks `1 <= value <= most`.
    pub(crate) fn check_dimension(
        what: &'static str,
        value: usize,
        most: usize,
    ) -> Result<(), KernelError> {
        if value == 0 || value > most {
            return Err(KernelError::Dimension { what, value, most });
        }
        Ok(())
    }

    /// Checks that an array has the length its shape asks for.
    pub(crate) fn check_length(
        what: &'static str,
        found: usize,
        expected: Option<usize>,
    ) -> Result<(), KernelError> {
        let expected = expected.unwrap_or(usize::MAX);
        if found != expected {
            return Err(KernelError::Length { what, found, expected });
        }
        Ok(())
    }

    /// Checks that every element is finite.
    pub(crate) fn check_finite(what: &'static str, values: &[f32]) -> Result<(), KernelError> {
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(KernelError::NotFinite { what, index, value: values[index] }),
            None => Ok(()),
        }
    }
}
