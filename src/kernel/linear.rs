//! Matrix products of 8-bit activations with 8-bit weights.
//!
//! Two ways to run a [`Linear`]: *dynamic*, where each row of floats is quantised with its own
//! range and the result is floats; and *static*, where activations are bytes with a known
//! scale and the result is bytes again (or floats, for the last layer).
//!
//! In both, the accumulator `Σ (a - zero_point) · w` is exact and the same on all machines.

use std::ops::Range;

use super::gemm;
use super::pack::PackedWeights;
use super::{
    Activation, AlignedBytes, KernelError, Machine, Matrix, MatrixMut, Quantisation, QuantisedRows,
    Requantisation, Scratch, StaticOutput, WeightMatrix,
};

/// A linear layer with int8 weights, packed for one machine: `y = x · Wᵀ · scales + bias`.
#[derive(Debug, Clone)]
pub struct Linear {
    machine: Machine,
    pub(crate) weights: PackedWeights,
    /// Padded with zeros to whole vectors, as `bias` is.
    pub(crate) scales: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Linear {
    /// Packs `weights` (`outputs` rows of `inputs`, symmetric int8) with one scale, and
    /// perhaps a bias, for each output.
    ///
    /// # Errors
    /// Dimensions and lengths disagree, a weight is -128, a scale or bias is not finite.
    ///
    /// # Panics
    /// If this processor does not have the machine.
    pub fn new(
        machine: Machine,
        weights: &[i8],
        outputs: usize,
        inputs: usize,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        let weights = WeightMatrix::dense(weights, outputs, inputs)?;
        let memory = AlignedBytes::zeroed(Self::packed_length(machine, outputs, inputs));
        Self::pack(machine, &weights, scales, bias, memory)
    }

    /// Bytes that the packed weights of a layer take; 0 for dimensions that no layer can have.
    pub fn packed_length(machine: Machine, outputs: usize, inputs: usize) -> usize {
        let valid = outputs <= super::MOST_OUTPUTS && inputs <= super::MOST_INPUTS;
        if valid { PackedWeights::length(machine.layout(), outputs, inputs) } else { 0 }
    }

    /// [`Linear::new`] of weights as they lie in a tensor, packed into zero bytes, as many as
    /// [`Linear::packed_length`] says.
    ///
    /// # Errors
    /// As for [`Linear::new`].
    ///
    /// # Panics
    /// If this processor does not have the machine.
    pub fn pack(
        machine: Machine,
        weights: &WeightMatrix,
        scales: &[f32],
        bias: Option<&[f32]>,
        memory: AlignedBytes,
    ) -> Result<Self, KernelError> {
        machine.assert_available();
        let outputs = weights.outputs();
        let weights = PackedWeights::within(machine.layout(), weights, memory)?;
        KernelError::check_length("scales", scales.len(), Some(outputs))?;
        KernelError::check_finite("scale", scales)?;
        let mut padded_bias = vec![0.0; weights.sums.len()];
        if let Some(bias) = bias {
            KernelError::check_length("bias", bias.len(), Some(outputs))?;
            KernelError::check_finite("bias", bias)?;
            padded_bias[..outputs].copy_from_slice(bias);
        }
        let mut padded_scales = vec![0.0; weights.sums.len()];
        padded_scales[..outputs].copy_from_slice(scales);
        Ok(Self { machine, weights, scales: padded_scales, bias: padded_bias })
    }

    /// The machine the weights are packed for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.weights.outputs
    }

    /// Inputs of each output channel.
    pub fn inputs(&self) -> usize {
        self.weights.inputs
    }

    /// What is added to each output channel.
    pub fn bias(&self) -> &[f32] {
        &self.bias[..self.outputs()]
    }

    /// Panels of output channels, the unit in which columns are shared out to threads.
    pub fn panels(&self) -> usize {
        self.weights.panels()
    }

    /// The output channels of a range of panels.
    pub fn columns(&self, panels: Range<usize>) -> Range<usize> {
        let width = self.weights.layout.panel_columns();
        let end = (panels.end * width).min(self.outputs());
        (panels.start * width).min(end)..end
    }

    /// Dynamic: `out = activation(x · Wᵀ + bias) + residual`, rows of floats.
    ///
    /// # Panics
    /// If `x`, `out` and `residual` are not the same number of rows.
    pub fn forward(
        &self,
        x: &[f32],
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        scratch.rows.quantise(self.machine, x, self.inputs());
        let rows = scratch.rows.rows();
        let residual = residual.map(|r| Matrix::dense(r, rows, self.outputs()));
        assert_eq!(out.len(), rows * self.outputs(), "output has the wrong length");
        let out = MatrixMut::dense(out, rows, self.outputs());
        self.forward_quantised(&scratch.rows, 0..self.panels(), activation, residual, out);
    }

    /// Dynamic, from rows already quantised, and only the output channels of some panels:
    /// `out` and `residual` have exactly those columns ([`Linear::columns`]).
    ///
    /// Threads that share few rows split the panels and, with [`MatrixMut::split_columns`], the
    /// output.
    ///
    /// # Panics
    /// If dimensions disagree, or the rows were quantised for another machine.
    pub fn forward_quantised(
        &self,
        x: &QuantisedRows,
        panels: Range<usize>,
        activation: Activation,
        residual: Option<Matrix<'_, f32>>,
        mut out: MatrixMut<'_, f32>,
    ) {
        assert!(panels.start <= panels.end && panels.end <= self.panels(), "panels out of range");
        let columns = self.columns(panels.clone()).len();
        assert_eq!(x.columns, self.inputs(), "inputs disagree");
        assert_eq!(x.stride, self.weights.inputs_padded, "quantised for another machine");
        assert_eq!((out.rows(), out.columns()), (x.rows, columns), "output has the wrong shape");
        if let Some(residual) = &residual {
            let shape = (residual.rows(), residual.columns());
            assert_eq!(shape, (x.rows, columns), "residual has the wrong shape");
        }
        gemm::dynamic(self, x, panels, activation, residual, &mut out);
    }

    /// The parameters of a static run whose result is bytes: see [`Requantisation`].
    ///
    /// # Errors
    /// A scale is not a positive normal number, or the range is empty.
    pub fn requantisation(
        &self,
        input: Quantisation,
        output: StaticOutput,
    ) -> Result<Requantisation, KernelError> {
        let mut plan = Requantisation::new(
            &self.scales,
            &self.bias,
            &self.weights.sums,
            (self.inputs(), self.weights.layout.offset),
            input,
            output,
        )?;
        for (start, lacking) in plan.start.iter_mut().zip(&self.weights.lacking) {
            *start = start.wrapping_add(*lacking);
        }
        Ok(plan)
    }

    /// Static: rows of bytes to rows of bytes.
    ///
    /// # Panics
    /// If lengths disagree, or a residual is given without its quantisation or the reverse.
    pub fn forward_static(
        &self,
        x: &[u8],
        plan: &Requantisation,
        residual: Option<&[u8]>,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let x = self.padded_rows(x, &mut scratch.padded);
        self.forward_static_padded(x, plan, residual, out);
    }

    /// [`Linear::forward_static`] of rows padded to [`Linear::padded_inputs`].
    pub(crate) fn forward_static_padded(
        &self,
        x: &[u8],
        plan: &Requantisation,
        residual: Option<&[u8]>,
        out: &mut [u8],
    ) {
        let rows = self.padded_row_count(x, out.len());
        assert_eq!(plan.multipliers.len(), self.scales.len(), "plan of another layer");
        assert_eq!(residual.is_some(), plan.residual.is_some(), "residual and plan disagree");
        if let Some(residual) = residual {
            assert_eq!(residual.len(), out.len(), "residual has the wrong length");
        }
        gemm::requantised(self, (x, rows), plan, residual, out);
    }

    /// Static input, floats out: `out = activation(x · Wᵀ + bias) + residual`.
    ///
    /// # Panics
    /// If lengths disagree.
    pub fn forward_static_to_float(
        &self,
        x: &[u8],
        input: Quantisation,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let x = self.padded_rows(x, &mut scratch.padded);
        self.forward_static_to_float_padded(x, input, activation, residual, out);
    }

    /// [`Linear::forward_static_to_float`] of rows padded to [`Linear::padded_inputs`].
    pub(crate) fn forward_static_to_float_padded(
        &self,
        x: &[u8],
        input: Quantisation,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let rows = self.padded_row_count(x, out.len());
        let residual = residual.map(|r| Matrix::dense(r, rows, self.outputs()));
        let mut out = MatrixMut::dense(out, rows, self.outputs());
        gemm::to_float(self, (x, rows), input, activation, residual, &mut out);
    }

    /// Inputs rounded up to what the machine's tiles read.
    pub(crate) fn padded_inputs(&self) -> usize {
        self.weights.inputs_padded
    }

    /// The number of padded rows, checked against the length of the output.
    fn padded_row_count(&self, x: &[u8], out: usize) -> usize {
        let rows = x.len() / self.padded_inputs();
        assert_eq!(x.len(), rows * self.padded_inputs(), "not a whole number of rows");
        assert_eq!(out, rows * self.outputs(), "output has the wrong length");
        rows
    }

    /// Rows padded to whole groups of inputs: the rows themselves where they are whole.
    fn padded_rows<'a>(&self, x: &'a [u8], scratch: &'a mut AlignedBytes) -> &'a [u8] {
        let (inputs, stride) = (self.inputs(), self.padded_inputs());
        assert!(x.len().is_multiple_of(inputs), "not a whole number of rows");
        if inputs == stride {
            return x;
        }
        let padded = scratch.reserve(x.len() / inputs * stride);
        for (to, from) in padded.chunks_exact_mut(stride).zip(x.chunks_exact(inputs)) {
            to[..inputs].copy_from_slice(from);
            to[inputs..].fill(0);
        }
        padded
    }
}
