//! Depthwise convolution of floats, channels last.

use std::ops::Range;

use super::activation::apply;
use super::pack::MOST_INPUTS;
use super::simd::{Vector, entry_points};
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
    let [kernel_height, kernel_width] = window.kernel;
    for y in rows.clone() {
        for x in 0..width {
            for channel in (0..channels).step_by(V::LANES) {
                // SAFETY: only pixels inside the picture and channels that exist are touched.
                unsafe {
                    let count = (channels - channel).min(V::LANES);
                    let mut sum = V::load_part(layer.bias.as_ptr().add(channel), count);
                    for ky in 0..kernel_height {
                        let iy = (y * window.stride[0] + ky).wrapping_sub(window.before[0]);
                        if iy >= input.height {
                            continue;
                        }
                        for kx in 0..kernel_width {
                            let ix = (x * window.stride[1] + kx).wrapping_sub(window.before[1]);
                            if ix >= input.width {
                                continue;
                            }
                            let at = ((iy - input.first_row) * input.width + ix) * channels;
                            let a = V::load_part(input.data.as_ptr().add(at + channel), count);
                            let tap = (ky * kernel_width + kx) * channels + channel;
                            let w = V::load_part(layer.weights.as_ptr().add(tap), count);
                            sum = V::fma(a, w, sum);
                        }
                    }
                    let at = ((y - rows.start) * width + x) * channels + channel;
                    V::store_part(out.add(at), apply::<V>(activation, sum), count);
                }
            }
        }
    }
}
