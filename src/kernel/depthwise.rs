//! Depthwise convolution of bytes with int8 weights, channels last.
//!
//! Four rows of the picture are interleaved byte by byte, so that one lane holds the four pixels
//! of a kernel column in one channel, and a dot product instruction multiplies them at once.

use std::ops::Range;

use super::activation::apply;
use super::pack::MOST_INPUTS;
use super::simd::{Dot, entry_points};
use super::{
    Activation, AlignedBytes, Band, KernelError, Machine, Quantisation, Requantisation, Scratch,
    StaticOutput, Window,
};

/// A depthwise convolution with int8 weights: every channel has a kernel of its own.
#[derive(Debug, Clone)]
pub struct Depthwise {
    machine: Machine,
    window: Window,
    channels: usize,
    /// The first channel of each block of `4 * lanes` channels; the last may overlap the one
    /// before it, or be partial if it is the only one.
    blocks: Vec<usize>,
    /// Block after block: group of four kernel rows, kernel column, four vectors of weights.
    weights: AlignedBytes,
    /// These three are block after block, in interleaved order.
    sums: Vec<i32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Depthwise {
    /// Packs `weights`, ordered kernel row, kernel column, channel.
    ///
    /// # Errors
    /// Dimensions and lengths disagree, a weight is -128, a scale or bias is not finite, the window
    /// cannot be applied.
    pub fn new(
        machine: Machine,
        weights: &[i8],
        channels: usize,
        window: Window,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        machine.assert_available();
        window.check()?;
        KernelError::check_dimension("channels", channels, MOST_INPUTS)?;
        let [height, width] = window.kernel;
        KernelError::check_length("weights", weights.len(), Some(height * width * channels))?;
        KernelError::check_length("scales", scales.len(), Some(channels))?;
        KernelError::check_finite("scale", scales)?;
        if let Some(bias) = bias {
            KernelError::check_length("bias", bias.len(), Some(channels))?;
            KernelError::check_finite("bias", bias)?;
        }
        if let Some(index) = weights.iter().position(|&w| w == i8::MIN) {
            return Err(KernelError::WeightRange { index });
        }
        let span = machine.layout().lanes * 4;
        let mut blocks: Vec<usize> = (0..channels).step_by(span).collect();
        if let Some(last) = blocks.last_mut() {
            *last = (*last).min(channels.saturating_sub(span));
        }
        let groups = height.div_ceil(4);
        let mut packed = Self {
            machine,
            window,
            channels,
            weights: AlignedBytes::zeroed(blocks.len() * groups * width * span * 4),
            sums: vec![0; blocks.len() * span],
            scales: vec![0.0; blocks.len() * span],
            bias: vec![0.0; blocks.len() * span],
            blocks,
        };
        packed.fill(weights, scales, bias);
        Ok(packed)
    }

    fn fill(&mut self, weights: &[i8], scales: &[f32], bias: Option<&[f32]>) {
        let lanes = self.machine.layout().lanes;
        let [height, width] = self.window.kernel;
        let block_bytes = height.div_ceil(4) * width * lanes * 16;
        let data = self.weights.as_mut_slice();
        for (block, &first) in self.blocks.iter().enumerate() {
            for vector in 0..4 {
                for lane in 0..lanes {
                    let channel = first + self.machine.interleaved_channel(vector, lane);
                    if channel >= self.channels {
                        continue;
                    }
                    let at = (block * 4 + vector) * lanes + lane;
                    self.scales[at] = scales[channel];
                    self.bias[at] = bias.map_or(0.0, |b| b[channel]);
                    for (tap, w) in weights.chunks_exact(self.channels).enumerate() {
                        let (y, x) = (tap / width, tap % width);
                        let place = ((y / 4 * width + x) * 4 + vector) * lanes + lane;
                        data[block * block_bytes + place * 4 + y % 4] = w[channel] as u8;
                        self.sums[at] += i32::from(w[channel]);
                    }
                }
            }
        }
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The machine the weights are packed for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The parameters of a run whose result is bytes.
    ///
    /// # Errors
    /// A scale is not a positive normal number, or the range is empty.
    pub fn requantisation(
        &self,
        input: Quantisation,
        output: StaticOutput,
    ) -> Result<Requantisation, KernelError> {
        let offset = self.machine.layout().offset;
        Requantisation::new(&self.scales, &self.bias, &self.sums, offset, input, output)
    }

    /// Computes some rows of the output, bytes. `out` holds exactly those rows; padding is the
    /// input's zero point. There is no residual.
    ///
    /// # Panics
    /// If lengths disagree, or input rows are missing, or the plan has a residual.
    pub fn run(
        &self,
        input: Band<'_, u8>,
        plan: &Requantisation,
        rows: Range<usize>,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) {
        assert_eq!(plan.start.len(), self.sums.len(), "plan of another layer");
        assert!(plan.residual.is_none(), "a depthwise convolution takes no residual");
        let job = self.job(&input, &rows, out.len(), plan.zero_point, scratch);
        let output = Output::Bytes { plan, out: out.as_mut_ptr() };
        // SAFETY: `job` checked the machine, the rows at hand and the output's length.
        unsafe { depthwise_on(self.machine, &job, rows, output) }
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
        let job = self.job(&input, &rows, out.len(), quantisation.zero_point, scratch);
        let output = Output::Floats { quantisation, activation, out: out.as_mut_ptr() };
        // SAFETY: as in `run`.
        unsafe { depthwise_on(self.machine, &job, rows, output) }
    }

    /// Checks shapes and prepares a pixel of padding.
    fn job<'a>(
        &'a self,
        input: &Band<'a, u8>,
        rows: &Range<usize>,
        out: usize,
        zero_point: u8,
        scratch: &'a mut Scratch,
    ) -> Job<'a> {
        assert_eq!(input.channels, self.channels, "channels disagree");
        let (height, width) = self.window.output(input.height, input.width);
        assert!(rows.start <= rows.end && rows.end <= height, "output rows out of range");
        assert_eq!(out, rows.len() * width * self.channels, "output has the wrong length");
        input.check(&self.window.input_rows(rows.clone(), input.height));
        let padding = scratch.bytes.reserve(self.channels.max(64));
        padding.fill(zero_point);
        Job { layer: self, input: *input, width, padding }
    }
}

impl Machine {
    /// [`Dot::interleaved_channel`] of this machine.
    pub(crate) fn interleaved_channel(self, vector: usize, lane: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2 => super::x86::Avx2::interleaved_channel(vector, lane),
            #[cfg(target_arch = "x86_64")]
            Machine::AvxVnni => super::x86::AvxVnni::interleaved_channel(vector, lane),
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512Vnni => super::x86::Avx512::interleaved_channel(vector, lane),
            #[cfg(target_arch = "aarch64")]
            Machine::Neon => super::aarch64::Neon::interleaved_channel(vector, lane),
            #[cfg(target_arch = "aarch64")]
            Machine::NeonDot => super::aarch64::NeonDot::interleaved_channel(vector, lane),
            #[cfg(target_arch = "aarch64")]
            Machine::NeonI8mm => super::aarch64::NeonI8mm::interleaved_channel(vector, lane),
            _ => super::simd::Scalar::interleaved_channel(vector, lane),
        }
    }
}

/// A checked request.
pub(crate) struct Job<'a> {
    layer: &'a Depthwise,
    input: Band<'a, u8>,
    /// Output width.
    width: usize,
    /// A pixel whose every channel is the zero point.
    padding: &'a [u8],
}

/// Where results go, and how.
#[derive(Clone, Copy)]
pub(crate) enum Output<'a> {
    Bytes { plan: &'a Requantisation, out: *mut u8 },
    Floats { quantisation: Quantisation, activation: Activation, out: *mut f32 },
}

entry_points! {
    /// Depthwise convolution on a machine.
    fn depthwise_on(job: &Job<'_>, rows: Range<usize>, output: Output<'_>) = depthwise;
}

/// # Safety
/// The job's band holds all input rows under `rows`; the output holds those rows.
#[inline(always)]
unsafe fn depthwise<V: Dot>(job: &Job<'_>, rows: Range<usize>, output: Output<'_>) {
    let span = 4 * V::LANES;
    for y in rows.clone() {
        for (block, &first) in job.layer.blocks.iter().enumerate() {
            let count = (job.layer.channels - first).min(span);
            for x in 0..job.width {
                // SAFETY: all positions lie within what the caller vouches for.
                unsafe {
                    let sums = sums_at::<V>(job, (block, first, count), (y, x), output);
                    let at = ((y - rows.start) * job.width + x) * job.layer.channels + first;
                    finish::<V>(job.layer, (block, count), sums, output, at);
                }
            }
        }
    }
}

/// The accumulators of one output pixel and block of channels.
///
/// # Safety
/// As for [`depthwise`].
#[inline(always)]
unsafe fn sums_at<V: Dot>(
    job: &Job<'_>,
    (block, first, count): (usize, usize, usize),
    (y, x): (usize, usize),
    output: Output<'_>,
) -> [V::I; 4] {
    // SAFETY: pointers into the band are made only for rows and columns inside the picture.
    unsafe {
        let Depthwise { window, channels, .. } = *job.layer;
        let [height, width] = window.kernel;
        let mut sums = [V::splat_i(0); 4];
        for (v, sum) in sums.iter_mut().enumerate() {
            let at = (block * 4 + v) * V::LANES;
            *sum = match output {
                Output::Bytes { plan, .. } => V::load_i(plan.start.as_ptr().add(at)),
                Output::Floats { quantisation, .. } => V::mul_i(
                    V::load_i(job.layer.sums.as_ptr().add(at)),
                    V::splat_i(V::OFFSET - i32::from(quantisation.zero_point)),
                ),
            };
        }
        let groups = height.div_ceil(4);
        let weights = job.layer.weights.as_slice().as_ptr().cast::<i8>();
        let weights = weights.add(block * groups * width * 16 * V::LANES);
        for group in 0..groups {
            for kx in 0..width {
                let ix = (x * window.stride[1] + kx).wrapping_sub(window.before[1]);
                let mut pixels = [job.padding.as_ptr(); 4];
                for (r, pixel) in pixels.iter_mut().enumerate() {
                    let ky = group * 4 + r;
                    let iy = (y * window.stride[0] + ky).wrapping_sub(window.before[0]);
                    if ky < height && iy < job.input.height && ix < job.input.width {
                        let row = iy - job.input.first_row;
                        let at = (row * job.input.width + ix) * channels + first;
                        *pixel = job.input.data.as_ptr().add(at);
                    }
                }
                let a = V::interleave_part(pixels, count);
                let w = weights.add((group * width + kx) * 16 * V::LANES);
                for (v, sum) in sums.iter_mut().enumerate() {
                    let w = V::load_weights(w.add(v * 4 * V::LANES));
                    *sum = V::dot(*sum, a[v], w);
                }
            }
        }
        sums
    }
}

/// Stores the results of one output pixel and block of channels.
///
/// # Safety
/// The output holds `count` elements from `at` on.
#[inline(always)]
unsafe fn finish<V: Dot>(
    layer: &Depthwise,
    (block, count): (usize, usize),
    sums: [V::I; 4],
    output: Output<'_>,
    at: usize,
) {
    // SAFETY: the parameter arrays hold whole blocks; the output as the caller promises.
    unsafe {
        let base = block * 4 * V::LANES;
        match output {
            Output::Bytes { plan, out } => {
                let (low, high) = (V::splat(f32::from(plan.low)), V::splat(f32::from(plan.high)));
                let mut results = sums;
                for (v, result) in results.iter_mut().enumerate() {
                    let multiplier = V::load(plan.multipliers.as_ptr().add(base + v * V::LANES));
                    let addend = V::load(plan.addends.as_ptr().add(base + v * V::LANES));
                    let y = V::fma(V::to_float(*result), multiplier, addend);
                    *result = V::to_int(V::min(V::max(y, low), high));
                }
                V::store_interleaved_part(out.add(at), results, count);
            }
            Output::Floats { quantisation, activation, out } => {
                let mut values = [0f32; 64];
                for (v, &sum) in sums.iter().enumerate() {
                    let scale = V::load(layer.scales.as_ptr().add(base + v * V::LANES));
                    let scale = V::mul(V::splat(quantisation.scale), scale);
                    let bias = V::load(layer.bias.as_ptr().add(base + v * V::LANES));
                    let y = apply::<V>(activation, V::fma(V::to_float(sum), scale, bias));
                    V::store(values.as_mut_ptr().add(v * V::LANES), y);
                }
                for v in 0..4 {
                    for lane in 0..V::LANES {
                        let channel = V::interleaved_channel(v, lane);
                        if channel < count {
                            *out.add(at + channel) = values[v * V::LANES + lane];
                        }
                    }
                }
            }
        }
    }
}
