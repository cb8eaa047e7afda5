//! Convolution, channels last, as a matrix product over the patches of a few rows at a time.

use std::ops::Range;

use super::{
    Activation, Band, KernelError, Linear, Machine, Quantisation, Requantisation, Scratch,
    StaticOutput, Window,
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

/// Bytes of patches to gather before they are multiplied: half of a first-level cache.
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
        let row = width * self.outputs();
        self.each_block(&input, plan.zero_point, rows, width, scratch, |patches, at| {
            let at = at.start * row..at.end * row;
            let residual = residual.map(|r| &r[at.clone()]);
            self.linear.forward_static_padded(patches, plan, residual, &mut out[at]);
        });
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
        let row = width * self.outputs();
        self.each_block(&input, quantisation.zero_point, rows, width, scratch, |patches, at| {
            let out = &mut out[at.start * row..at.end * row];
            linear.forward_static_to_float_padded(patches, quantisation, activation, None, out);
        });
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

    /// Gathers the patches under a few output rows at a time, and hands them to `use_block` with the
    /// rows (counted from the first one asked for).
    fn each_block(
        &self,
        input: &Band<'_, u8>,
        zero_point: u8,
        rows: Range<usize>,
        width: usize,
        scratch: &mut Scratch,
        mut use_block: impl FnMut(&[u8], Range<usize>),
    ) {
        let stride = self.linear.padded_inputs();
        let together = (PATCH_BYTES / (stride * width.max(1))).max(1);
        for first in rows.clone().step_by(together) {
            let block = first..(first + together).min(rows.end);
            let patches = scratch.bytes.reserve(block.len() * width * stride);
            for (y, patches) in block.clone().zip(patches.chunks_exact_mut(width * stride)) {
                self.gather_row(input, zero_point, y, (width, stride), patches);
            }
            use_block(patches, block.start - rows.start..block.end - rows.start);
        }
    }

    /// Copies the patches under output row `y`, `stride` bytes apart.
    fn gather_row(
        &self,
        input: &Band<'_, u8>,
        zero_point: u8,
        y: usize,
        (width, stride): (usize, usize),
        patches: &mut [u8],
    ) {
        let Window { kernel, stride: step, before, .. } = self.window;
        let (pixel, line) = (self.channels, kernel[1] * self.channels);
        let row_bytes = input.width * pixel;
        if stride > self.linear.inputs() {
            let inputs = self.linear.inputs();
            patches.chunks_exact_mut(stride).for_each(|patch| patch[inputs..].fill(0));
        }
        // Output columns whose whole kernel lies inside the picture.
        let inside_start = before[1].div_ceil(step[1]).min(width);
        let inside_end = (input.width + before[1] + step[1])
            .checked_sub(kernel[1])
            .map_or(0, |room| room / step[1])
            .clamp(inside_start, width);
        for ky in 0..kernel[0] {
            let iy = (y * step[0] + ky).wrapping_sub(before[0]);
            let to = &mut patches[ky * line..];
            if iy >= input.height {
                for x in 0..width {
                    to[x * stride..][..line].fill(zero_point);
                }
                continue;
            }
            let row = &input.data[(iy - input.first_row) * row_bytes..][..row_bytes];
            for x in (0..inside_start).chain(inside_end..width) {
                let left = x * step[1];
                for (kx, to) in to[x * stride..][..line].chunks_exact_mut(pixel).enumerate() {
                    match (left + kx).checked_sub(before[1]).filter(|&ix| ix < input.width) {
                        Some(ix) => to.copy_from_slice(&row[ix * pixel..][..pixel]),
                        None => to.fill(zero_point),
                    }
                }
            }
            if inside_start < inside_end {
                let from = &row[(inside_start * step[1] - before[1]) * pixel..];
                let to = &mut to[inside_start * stride..];
                let count = inside_end - inside_start;
                copy_lines(from, step[1] * pixel, to, stride, line, count);
            }
        }
    }
}

/// Copies `count` lines of bytes from and to places a fixed distance apart.
fn copy_lines(
    from: &[u8],
    from_step: usize,
    to: &mut [u8],
    to_step: usize,
    line: usize,
    count: usize,
) {
    /// With a length known to the compiler a line is a few moves.
    fn fixed<const N: usize>(
        from: &[u8],
        from_step: usize,
        to: &mut [u8],
        to_step: usize,
        count: usize,
    ) {
        let Some(last) = count.checked_sub(1) else { return };
        let fits = |step: usize, length: usize| {
            last.checked_mul(step).is_some_and(|start| length.checked_sub(start) >= Some(N))
        };
        assert!(fits(from_step, from.len()) && fits(to_step, to.len()), "lines are short");
        let (mut from, mut to) = (from.as_ptr(), to.as_mut_ptr());
        for _ in 0..count {
            // SAFETY: the last line ends within its slice, and all others start before it; the slices
            // do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(from, to, N) };
            (from, to) = (from.wrapping_add(from_step), to.wrapping_add(to_step));
        }
    }
    match line {
        9 => fixed::<9>(from, from_step, to, to_step, count),
        15 => fixed::<15>(from, from_step, to, to_step, count),
        21 => fixed::<21>(from, from_step, to, to_step, count),
        48 => fixed::<48>(from, from_step, to, to_step, count),
        96 => fixed::<96>(from, from_step, to, to_step, count),
        _ => {
            for i in 0..count {
                to[i * to_step..][..line].copy_from_slice(&from[i * from_step..][..line]);
            }
        }
    }
}
