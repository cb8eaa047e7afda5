//! Convolution, channels last, as a matrix product over the patches of a few rows at a time.

use std::ops::Range;

use super::{
    Activation, AlignedBytes, Band, KernelError, Linear, Machine, Quantisation, Requantisation,
    Scratch, StaticOutput, Window,
};

/// A convolution with int8 weights (one group, no dilation).
///
/// A 1×1 kernel with stride 1 multiplies the picture where it lies; other kernels first gather
/// patches into scratch memory.
#[derive(Debug, Clone)]
pub struct Convolution {
    linear: Linear,
    window: Window,
    channels: usize,
}

/// Bytes of patches gathered before they are multiplied: half of a first-level cache.
const PATCH_BYTES: usize = 24 << 10;

impl Convolution {
    /// Packs `weights`, ordered output channel, kernel row, kernel column, input channel.
    ///
    /// # Errors
    /// As for [`Linear::new`], and for a window that cannot be applied.
    pub fn new(
        machine: Machine,
        weights: &[i8],
        outputs: usize,
        channels: usize,
        window: Window,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        window.check()?;
        KernelError::check_dimension("channels", channels, super::pack::MOST_INPUTS)?;
        let inputs = window.kernel[0] * window.kernel[1] * channels;
        let linear = Linear::new(machine, weights, outputs, inputs, scales, bias)?;
        Ok(Self { linear, window, channels })
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.linear.outputs()
    }

    /// Input channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The machine the weights are packed for.
    pub fn machine(&self) -> Machine {
        self.linear.machine()
    }

    /// The parameters of a run whose result is bytes.
    ///
    /// # Errors
    /// As for [`Linear::requantisation`].
    pub fn requantisation(
        &self,
        input: Quantisation,
        output: StaticOutput,
    ) -> Result<Requantisation, KernelError> {
        self.linear.requantisation(input, output)
    }

    /// Computes some rows of the output, bytes. Padding is the input's zero point.
    ///
    /// `out` and `residual` hold exactly those rows.
    ///
    /// # Panics
    /// If lengths disagree, or input rows are missing.
    pub fn run(
        &self,
        input: Band<'_, u8>,
        plan: &Requantisation,
        rows: Range<usize>,
        residual: Option<&[u8]>,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let width = self.check(&input, &rows, out.len());
        if let Some(residual) = residual {
            assert_eq!(residual.len(), out.len(), "residual has the wrong length");
        }
        if let Some(x) = self.pixels(&input, &rows) {
            return self.linear.forward_static(x, plan, residual, out, scratch);
        }
        let outputs = self.outputs();
        let mut bytes = std::mem::take(&mut scratch.patches);
        self.each_patch_block(
            &input,
            plan.zero_point,
            rows.len() * width,
            &mut bytes,
            |patches, at| {
                let at = at.start * outputs..at.end * outputs;
                let residual = residual.map(|r| &r[at.clone()]);
                self.linear.forward_static(patches, plan, residual, &mut out[at], scratch);
            },
            rows.start * width,
            width,
        );
        scratch.patches = bytes;
    }

    /// Computes some rows of the output, floats: `activation(convolution + bias)`.
    ///
    /// # Panics
    /// If lengths disagree, or input rows are missing.
    pub fn run_to_float(
        &self,
        input: Band<'_, u8>,
        quantisation: Quantisation,
        activation: Activation,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let width = self.check(&input, &rows, out.len());
        let linear = &self.linear;
        if let Some(x) = self.pixels(&input, &rows) {
            linear.forward_static_to_float(x, quantisation, activation, None, out, scratch);
            return;
        }
        let outputs = self.outputs();
        let mut bytes = std::mem::take(&mut scratch.patches);
        let zero_point = quantisation.zero_point;
        self.each_patch_block(
            &input,
            zero_point,
            rows.len() * width,
            &mut bytes,
            |patches, at| {
                let out = &mut out[at.start * outputs..at.end * outputs];
                linear.forward_static_to_float(
                    patches,
                    quantisation,
                    activation,
                    None,
                    out,
                    scratch,
                );
            },
            rows.start * width,
            width,
        );
        scratch.patches = bytes;
    }

    /// Checks shapes; gives the output's width.
    fn check(&self, input: &Band<'_, u8>, rows: &Range<usize>, out: usize) -> usize {
        assert_eq!(input.channels, self.channels, "channels disagree");
        let (height, width) = self.window.output(input.height, input.width);
        assert!(rows.start <= rows.end && rows.end <= height, "output rows out of range");
        assert_eq!(out, rows.len() * width * self.outputs(), "output has the wrong length");
        input.check(&self.window.input_rows(rows.clone(), input.height));
        width
    }

    /// The pixels themselves, if the kernel is 1×1 with stride 1.
    fn pixels<'a>(&self, input: &Band<'a, u8>, rows: &Range<usize>) -> Option<&'a [u8]> {
        let unit = self.window.kernel == [1, 1] && self.window.stride == [1, 1];
        unit.then(|| {
            let row = input.width * input.channels;
            if rows.is_empty() {
                return &input.data[..0];
            }
            let start = (rows.start - input.first_row) * row;
            &input.data[start..start + rows.len() * row]
        })
    }

    /// Gathers the patches of `count` output pixels from pixel `first` on, block by block, and
    /// hands each block to `use_block` with its range of pixels (counted from `first`).
    #[allow(clippy::too_many_arguments)]
    fn each_patch_block(
        &self,
        input: &Band<'_, u8>,
        zero_point: u8,
        count: usize,
        bytes: &mut AlignedBytes,
        mut use_block: impl FnMut(&[u8], Range<usize>),
        first: usize,
        width: usize,
    ) {
        let length = self.linear.inputs();
        let block = (PATCH_BYTES / length).max(16).next_multiple_of(12);
        let mut start = 0;
        while start < count {
            let end = (start + block).min(count);
            let patches = bytes.reserve((end - start) * length);
            for (patch, pixel) in patches.chunks_exact_mut(length).zip(first + start..) {
                self.gather(input, zero_point, (pixel / width, pixel % width), patch);
            }
            use_block(patches, start..end);
            start = end;
        }
    }

    /// Copies the patch under one output pixel.
    fn gather(&self, input: &Band<'_, u8>, zero_point: u8, at: (usize, usize), patch: &mut [u8]) {
        let Window { kernel, stride, before, .. } = self.window;
        let row_bytes = input.width * self.channels;
        // The kernel columns that lie inside the picture.
        let left = at.1 * stride[1];
        let skip = before[1].saturating_sub(left).min(kernel[1]);
        let x = (left + skip).saturating_sub(before[1]);
        let taken = input.width.saturating_sub(x).min(kernel[1] - skip);
        let span = skip * self.channels..(skip + taken) * self.channels;
        for (ky, line) in patch.chunks_exact_mut(kernel[1] * self.channels).enumerate() {
            let y = (at.0 * stride[0] + ky).wrapping_sub(before[0]);
            if y >= input.height || taken == 0 {
                line.fill(zero_point);
                continue;
            }
            let from = (y - input.first_row) * row_bytes + x * self.channels;
            line[..span.start].fill(zero_point);
            line[span.clone()].copy_from_slice(&input.data[from..from + span.len()]);
            line[span.end..].fill(zero_point);
        }
    }
}
