//! Depthwise convolution of floats, channels last.

use std::ops::Range;

use super::activation::activate_all;
use super::pack::MOST_INPUTS;
use super::simd::{Vector, entry_points, load_some, store_some, unrolled};
use super::{Activation, Band, KernelError, Machine, Window};

/// A depthwise convolution with float weights: every channel has a kernel of its own.
#[derive(Debug, Clone)]
pub struct DepthwiseFloat {
    machine: Machine,
    window: Window,
    channels: usize,
    /// Kernel row, kernel column, channel.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl DepthwiseFloat {
    /// Takes `weights`, ordered kernel row, kernel column, channel.
    ///
    /// # Errors
    /// Dimensions and lengths disagree, a weight or bias is not finite, the window cannot be
    /// applied.
    pub fn new(
        machine: Machine,
        weights: &[f32],
        channels: usize,
        window: Window,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        machine.assert_available();
        window.check()?;
        KernelError::check_dimension("channels", channels, MOST_INPUTS)?;
        let taps = window.kernel[0] * window.kernel[1];
        KernelError::check_length("weights", weights.len(), Some(taps * channels))?;
        KernelError::check_finite("weight", weights)?;
        let bias = bias.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec);
        KernelError::check_length("bias", bias.len(), Some(channels))?;
        KernelError::check_finite("bias", &bias)?;
        Ok(Self { machine, window, channels, weights: weights.to_vec(), bias })
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Computes some rows of the output: `activation(convolution + bias)`, with zeros as padding.
    /// `out` holds exactly those rows.
    ///
    /// # Panics
    /// If lengths disagree, or input rows are missing.
    pub fn run(
        &self,
        input: Band<'_, f32>,
        activation: Activation,
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        assert_eq!(input.channels, self.channels, "channels disagree");
        let (height, width) = self.window.output(input.height, input.width);
        assert!(rows.start <= rows.end && rows.end <= height, "output rows out of range");
        assert_eq!(out.len(), rows.len() * width * self.channels, "output has the wrong length");
        input.check(&self.window.input_rows(rows.clone(), input.height));
        // SAFETY: the machine was available when this was made; shapes were just checked.
        unsafe {
            float_depthwise_on(
                self.machine,
                self,
                &input,
                (rows, width),
                activation,
                out.as_mut_ptr(),
            )
        }
    }
}

entry_points! {
    /// Depthwise convolution of floats on a machine.
    fn float_depthwise_on(layer: &DepthwiseFloat, input: &Band<'_, f32>,
        shape: (Range<usize>, usize), activation: Activation, out: *mut f32) = float_depthwise;
}

/// Outputs of a row computed together, so that each weight is loaded once for all.
const TOGETHER: usize = 8;

/// Neighbouring pixels of a row that share the columns they look at.
const SIDE_BY_SIDE: usize = 8;

/// One vector of channels of one output row.
struct Line<'a> {
    layer: &'a DepthwiseFloat,
    input: &'a Band<'a, f32>,
    y: usize,
    channel: usize,
    /// Kernel rows that lie inside the picture.
    kernel_rows: Range<usize>,
}

/// # Safety
/// The band holds all input rows under the rows asked for; `out` holds those rows.
#[inline(always)]
unsafe fn float_depthwise<V: Vector>(
    layer: &DepthwiseFloat,
    input: &Band<'_, f32>,
    (rows, width): (Range<usize>, usize),
    activation: Activation,
    out: *mut f32,
) {
    let DepthwiseFloat { window, channels, .. } = *layer;
    // Output columns whose whole kernel lies inside the picture.
    let start = window.before[1].div_ceil(window.stride[1]).min(width);
    let end = (input.width + window.before[1] + window.stride[1])
        .checked_sub(window.kernel[1])
        .map_or(0, |room| room / window.stride[1])
        .clamp(start, width);
    let slides = (window.kernel[1], window.stride[1]) == (3, 1);
    for y in rows.clone() {
        let top = y * window.stride[0];
        let kernel_rows = window.before[0].saturating_sub(top).min(window.kernel[0])
            ..(input.height + window.before[0]).saturating_sub(top).min(window.kernel[0]);
        for channel in (0..channels).step_by(V::LANES) {
            let kernel_rows = kernel_rows.clone();
            let line = Line { layer, input, y, channel, kernel_rows };
            // SAFETY: only pixels inside the picture and channels that exist are touched.
            unsafe {
                let out = out.add((y - rows.start) * width * channels + channel);
                let mut x = 0;
                while x < width {
                    let to = out.add(x * channels);
                    let whole = channels - channel >= V::LANES && x >= start;
                    if whole && x + SIDE_BY_SIDE <= end && slides {
                        side_by_side::<V>(&line, x, to);
                        x += SIDE_BY_SIDE;
                    } else if whole && x + TOGETHER <= end {
                        several::<V, TOGETHER>(&line, x, to);
                        x += TOGETHER;
                    } else if whole && x + 2 <= end {
                        several::<V, 2>(&line, x, to);
                        x += 2;
                    } else {
                        single::<V>(&line, x, to);
                        x += 1;
                    }
                }
            }
        }
        let row = (y - rows.start) * width * channels;
        // SAFETY: the row was just written.
        unsafe { activate_all::<V>(activation, out.add(row), width * channels) }
    }
}

/// Computes `N` outputs whose kernels lie inside the picture, in a whole vector of channels.
///
/// # Safety
/// They do; `out` holds `N` pixels.
#[inline(always)]
unsafe fn several<V: Vector, const N: usize>(line: &Line<'_>, x: usize, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let DepthwiseFloat { window, channels, .. } = *line.layer;
        let mut sums = [V::load(line.layer.bias.as_ptr().add(line.channel)); N];
        let step = window.stride[1] * channels;
        for ky in line.kernel_rows.clone() {
            let row = line.y * window.stride[0] + ky - window.before[0] - line.input.first_row;
            let column = x * window.stride[1] - window.before[1];
            let mut from = line.input.data.as_ptr();
            from = from.add((row * line.input.width + column) * channels + line.channel);
            let mut weights = line.layer.weights.as_ptr();
            weights = weights.add(ky * window.kernel[1] * channels + line.channel);
            for _ in 0..window.kernel[1] {
                let w = V::load(weights);
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = V::fma(V::load(from.add(n * step)), w, *sum);
                }
                from = from.add(channels);
                weights = weights.add(channels);
            }
        }
        for (n, &sum) in sums.iter().enumerate() {
            V::store(out.add(n * channels), sum);
        }
    }
}

/// [`several`] for kernels three columns wide and a stride of 1: each column is loaded once for all outputs.
///
/// # Safety
/// As for [`several`], with [`SIDE_BY_SIDE`] outputs.
#[inline(always)]
unsafe fn side_by_side<V: Vector>(line: &Line<'_>, x: usize, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let DepthwiseFloat { window, channels, .. } = *line.layer;
        let mut sums = [V::load(line.layer.bias.as_ptr().add(line.channel)); SIDE_BY_SIDE];
        for ky in line.kernel_rows.clone() {
            let row = line.y * window.stride[0] + ky - window.before[0] - line.input.first_row;
            let column = x - window.before[1];
            let mut from = line.input.data.as_ptr();
            from = from.add((row * line.input.width + column) * channels + line.channel);
            let tap = |kx: usize| {
                V::load(line.layer.weights.as_ptr().add((ky * 3 + kx) * channels + line.channel))
            };
            let kernel = [tap(0), tap(1), tap(2)];
            unrolled!(SIDE_BY_SIDE + 2, |column| {
                let a = V::load(from.add(column * channels));
                unrolled!(3, |kx| {
                    if column >= kx && column - kx < SIDE_BY_SIDE {
                        sums[column - kx] = V::fma(a, kernel[kx % 3], sums[column - kx]);
                    }
                });
            });
        }
        for (n, &sum) in sums.iter().enumerate() {
            V::store(out.add(n * channels), sum);
        }
    }
}

/// Computes one output anywhere, in any number of channels.
///
/// # Safety
/// `out` holds a pixel.
#[inline(always)]
unsafe fn single<V: Vector>(line: &Line<'_>, x: usize, out: *mut f32) {
    // SAFETY: only columns inside the picture and channels that exist are touched.
    unsafe {
        let DepthwiseFloat { window, channels, .. } = *line.layer;
        let count = (channels - line.channel).min(V::LANES);
        let mut sum = load_some::<V>(line.layer.bias.as_ptr().add(line.channel), count);
        for ky in line.kernel_rows.clone() {
            let row = line.y * window.stride[0] + ky - window.before[0] - line.input.first_row;
            for kx in 0..window.kernel[1] {
                let column = (x * window.stride[1] + kx).wrapping_sub(window.before[1]);
                if column < line.input.width {
                    let at = (row * line.input.width + column) * channels + line.channel;
                    let a = load_some::<V>(line.input.data.as_ptr().add(at), count);
                    let tap = (ky * window.kernel[1] + kx) * channels + line.channel;
                    let w = load_some::<V>(line.layer.weights.as_ptr().add(tap), count);
                    sum = V::fma(a, w, sum);
                }
            }
        }
        store_some::<V>(out, sum, count);
    }
}
