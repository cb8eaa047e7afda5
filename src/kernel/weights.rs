//! Int8 weights as a file stores them, before they are packed.

use super::KernelError;
use super::pack::{MOST_INPUTS, MOST_OUTPUTS};

/// A matrix of symmetric int8 weights that lies somewhere in a tensor: the weight of output `o` and
/// input `i` is the byte at `o · output_stride + i · input_stride`.
///
/// Weights of matrix products are stored inputs first in ONNX, and those of convolutions outputs
/// first: packing reads either as it lies, without a copy in another order.
#[derive(Debug, Clone, Copy)]
pub struct WeightMatrix<'a> {
    bytes: &'a [u8],
    outputs: usize,
    inputs: usize,
    output_stride: usize,
    input_stride: usize,
    flip: u8,
}

impl<'a> WeightMatrix<'a> {
    /// `outputs` rows of `inputs` weights.
    ///
    /// # Errors
    /// A dimension is zero or too large, or lengths disagree.
    pub fn dense(weights: &'a [i8], outputs: usize, inputs: usize) -> Result<Self, KernelError> {
        KernelError::check_dimension("outputs", outputs, MOST_OUTPUTS)?;
        KernelError::check_dimension("inputs", inputs, MOST_INPUTS)?;
        KernelError::check_length("weights", weights.len(), outputs.checked_mul(inputs))?;
        Self::strided(super::scratch::as_bytes(weights), [outputs, inputs], [inputs, 1])
    }

    /// Weights `[outputs, inputs]` at multiples of two strides, as two's complement. Nothing behind
    /// the last one is read.
    ///
    /// # Errors
    /// A dimension is zero or too large, or a weight would lie behind the end of `bytes`.
    pub fn strided(
        bytes: &'a [u8],
        [outputs, inputs]: [usize; 2],
        [output_stride, input_stride]: [usize; 2],
    ) -> Result<Self, KernelError> {
        KernelError::check_dimension("outputs", outputs, MOST_OUTPUTS)?;
        KernelError::check_dimension("inputs", inputs, MOST_INPUTS)?;
        let last_output = (outputs - 1).checked_mul(output_stride);
        let last_input = (inputs - 1).checked_mul(input_stride);
        let length = last_output
            .zip(last_input)
            .and_then(|(o, i)| o.checked_add(i)?.checked_add(1))
            .unwrap_or(usize::MAX);
        if length > bytes.len() {
            return Err(KernelError::Length {
                what: "weights",
                found: bytes.len(),
                expected: length,
            });
        }
        Ok(Self { bytes, outputs, inputs, output_stride, input_stride, flip: 0 })
    }

    /// The same with weights that are stored with 128 added, as unsigned bytes.
    pub fn offset_by_128(self) -> Self {
        Self { flip: 0x80, ..self }
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs of each output channel.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// What turns a stored byte into two's complement, by exclusive or.
    pub(super) fn flip(&self) -> u8 {
        self.flip
    }

    /// Whether the weights of one input and neighbouring outputs lie side by side.
    pub(super) fn has_outputs_side_by_side(&self) -> bool {
        self.output_stride == 1 && self.input_stride != 1
    }

    /// Whether the weights of one output lie side by side.
    pub(super) fn has_inputs_side_by_side(&self) -> bool {
        self.input_stride == 1
    }

    /// `count` stored bytes of one input, from output `first` on.
    ///
    /// # Panics
    /// If outputs do not lie side by side, or there are not as many.
    pub(super) fn outputs_of(&self, input: usize, first: usize, count: usize) -> &'a [u8] {
        assert!(self.output_stride == 1 && input < self.inputs && first + count <= self.outputs);
        &self.bytes[first + input * self.input_stride..][..count]
    }

    /// `count` stored bytes of one output, from input `first` on.
    ///
    /// # Panics
    /// If inputs do not lie side by side, or there are not as many.
    pub(super) fn inputs_of(&self, output: usize, first: usize, count: usize) -> &'a [u8] {
        assert!(self.input_stride == 1 && output < self.outputs && first + count <= self.inputs);
        &self.bytes[output * self.output_stride + first..][..count]
    }

    /// One weight.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, output: usize, input: usize) -> i8 {
        assert!(output < self.outputs && input < self.inputs, "no such weight");
        (self.bytes[output * self.output_stride + input * self.input_stride] ^ self.flip) as i8
    }
}
