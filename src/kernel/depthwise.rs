//! Depthwise convolution of bytes with int8 weights, channels last: weights and interface.
//!
//! The rows themselves are computed in [`super::depthwise_rows`].

use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::aarch64;
use super::depthwise_direct;
use super::depthwise_output::Output;
use super::depthwise_rows::{Job, depthwise_on};
use super::pack::MOST_INPUTS;
use super::scratch::AlignedBytes;
use super::{
    Activation, Band, KernelError, Machine, Quantisation, Requantisation, Scratch, StaticOutput,
    Window,
};

/// A depthwise convolution with int8 weights: every channel has a kernel of its own.
#[derive(Debug, Clone)]
pub struct Depthwise {
    machine: Machine,
    pub(crate) window: Window,
    pub(crate) channels: usize,
    /// Groups of four rows that a kernel reaches over.
    pub(crate) groups: usize,
    /// Output rows that one set of groups serves.
    pub(crate) shared_rows: usize,
    /// Whether sixteen channels are multiplied at a time.
    direct: bool,
    /// Vector of channels after vector; in it, for each shared row, group after group, and in
    /// it a vector of weights for each kernel column. If `direct`: as packed by [`depthwise_direct`].
    pub(crate) weights: AlignedBytes,
    /// Sum of each channel's weights; padded to whole vectors, as the next two are.
    pub(crate) sums: Vec<i32>,
    pub(crate) scales: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Depthwise {
    /// Packs `weights`, ordered kernel row, kernel column, channel.
    ///
    /// # Errors
    /// Dimensions and lengths disagree, a weight is -128, a scale or bias is not finite, the window
    /// cannot be applied.
    ///
    /// # Panics
    /// If this processor does not have the machine.
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
        if let Some(index) = weights.iter().position(|&w| w == i8::MIN) {
            return Err(KernelError::WeightRange { index });
        }
        let lanes = machine.layout().lanes;
        let padded = channels.next_multiple_of(lanes);
        let mut padded_bias = vec![0.0; padded];
        if let Some(bias) = bias {
            KernelError::check_length("bias", bias.len(), Some(channels))?;
            KernelError::check_finite("bias", bias)?;
            padded_bias[..channels].copy_from_slice(bias);
        }
        let mut padded_scales = vec![0.0; padded];
        padded_scales[..channels].copy_from_slice(scales);
        let groups = height.div_ceil(4);
        let shared_rows = (groups * 4 - height) / window.stride[0] + 1;
        let direct = depthwise_direct::suits(machine, window, channels);
        let packed_weights = match machine {
            Machine::Neon if direct => depthwise_direct::pack_taps(weights, channels),
            _ if direct => {
                let rows = (groups, shared_rows);
                depthwise_direct::pack_columns(weights, channels, window, rows)
            }
            _ => AlignedBytes::zeroed(padded * shared_rows * groups * width * 4),
        };
        let mut packed = Self {
            machine,
            window,
            channels,
            groups,
            shared_rows,
            direct,
            weights: packed_weights,
            sums: vec![0; padded],
            scales: padded_scales,
            bias: padded_bias,
        };
        for weights in weights.chunks_exact(channels) {
            for (sum, &weight) in packed.sums.iter_mut().zip(weights) {
                *sum += i32::from(weight);
            }
        }
        if !direct {
            packed.fill(weights, lanes);
        }
        Ok(packed)
    }

    fn fill(&mut self, weights: &[i8], lanes: usize) {
        let width = self.window.kernel[1];
        let data = self.weights.as_mut_slice();
        for (tap, weights) in weights.chunks_exact(self.channels).enumerate() {
            for (channel, &weight) in weights.iter().enumerate() {
                for shared in 0..self.shared_rows {
                    let (y, x) = (tap / width + shared * self.window.stride[0], tap % width);
                    let vector = channel / lanes * self.shared_rows + shared;
                    let vector = (vector * self.groups + y / 4) * width + x;
                    data[(vector * lanes + channel % lanes) * 4 + y % 4] = weight as u8;
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
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let terms = (taps, self.machine.layout().offset);
        Requantisation::new(&self.scales, &self.bias, &self.sums, terms, input, output)
    }

    /// Computes some rows of the output, bytes. `out` holds exactly those rows; padding is the
    /// input's zero point. There is no residual.
    ///
    /// Ranges of several rows are cheaper by the row than single ones.
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
        let width = self.check(&input, &rows, out.len());
        let mut job = self.job(input, (rows.len(), width), plan.zero_point, scratch);
        let output = Output::Bytes { plan, out: out.as_mut_ptr() };
        // SAFETY: the machine was available when this was made; `check` and `job` saw to the rows
        // at hand, the output's length and the buffers.
        unsafe { self.execute(&mut job, rows, output) }
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
        let mut job = self.job(input, (rows.len(), width), quantisation.zero_point, scratch);
        let output = Output::Floats { quantisation, activation, out: out.as_mut_ptr() };
        // SAFETY: as in `run`.
        unsafe { self.execute(&mut job, rows, output) }
    }

    /// # Safety
    /// The machine is available; the job holds the input rows and the output all of `rows`.
    unsafe fn execute(&self, job: &mut Job<'_>, rows: Range<usize>, output: Output<'_>) {
        #[cfg(target_arch = "aarch64")]
        if self.direct {
            // SAFETY: as the caller promises; `job` reserved the scratch memory.
            return unsafe {
                match self.machine {
                    Machine::Neon => aarch64::depthwise::run(job, rows, output),
                    _ => aarch64::depthwise_dot::run(job, rows, output),
                }
            };
        }
        // SAFETY: as the caller promises.
        unsafe { depthwise_on(self.machine, job, rows, output) }
    }

    /// Checks shapes; gives the output's width.
    fn check(&self, input: &Band<'_, u8>, rows: &Range<usize>, out: usize) -> usize {
        assert_eq!(input.channels, self.channels, "channels disagree");
        let (height, width) = self.window.output(input.height, input.width);
        assert!(rows.start <= rows.end && rows.end <= height, "output rows out of range");
        assert_eq!(out, rows.len() * width * self.channels, "output has the wrong length");
        input.check(&self.window.input_rows(rows.clone(), input.height));
        width
    }

    /// Prepares padding, and room for the columns that a row of output looks at.
    fn job<'a>(
        &'a self,
        input: Band<'a, u8>,
        (rows, width): (usize, usize),
        zero_point: u8,
        scratch: &'a mut Scratch,
    ) -> Job<'a> {
        let columns = (width.max(1) - 1) * self.window.stride[1] + self.window.kernel[1];
        let lanes = self.machine.layout().lanes;
        // Activations of one lane take eight bytes at most.
        let room = match self.direct {
            true => {
                let reach = (self.window, self.groups);
                depthwise_direct::scratch_bytes(self.machine, reach, columns, rows)
            }
            false => columns * self.groups * 4 * lanes * 8,
        };
        Job {
            layer: self,
            input,
            width,
            columns,
            padding: [zero_point; 64],
            interleaved: scratch.bytes.reserve(room),
        }
    }
}
