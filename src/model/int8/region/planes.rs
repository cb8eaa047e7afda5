//! Pixels whose channels are normalised differently, read without rounding.
//!
//! A byte `b` of channel `c` stands for `(b / 255 - mean_c) / std_c`. With one scale for all channels,
//! as a convolution needs, few of these numbers are hit. So the convolution becomes one for each channel, from its
//! bytes as they are, and the results are added up; what the means amount to goes into the bias.

use tract_onnx::prelude::*;

use crate::kernel::{Activation, Convolution, KernelError, Quantisation};

use super::build::Builder;
use super::draft::{After, ConvolutionDraft, ConvolutionKind, Draft, DraftKind, Size};
use super::program::{Form, Layer, Operation, PictureId, Step};

/// Bytes that mean themselves.
pub(super) const PLAIN_BYTES: Quantisation = Quantisation { scale: 1.0, zero_point: 0 };

impl Builder<'_, '_> {
    /// Whether the input is pixels that only one convolution reads, without padding (which is no pixel
    /// of any channel), whose result is taken as it is, and bytes of one scale would not be exact.
    pub fn reads_plain_pixels(
        &self,
        model: &TypedModel,
        outlet: OutletId,
        size: Size,
        layers: &[&Draft],
    ) -> bool {
        let Some(pixels) = &self.passes.pixels else { return false };
        let readers: Vec<&&Draft> =
            layers.iter().filter(|draft| draft.inputs.contains(&outlet)).collect();
        let [reader] = readers[..] else { return false };
        let DraftKind::Convolution(convolution) = &reader.kind else { return false };
        let window = convolution.window;
        model.inputs.first() == Some(&outlet)
            && pixels.mean.len() == size.channels
            && pixels.std.len() == size.channels
            && pixels.together().is_some_and(|(_, exact)| !exact)
            && convolution.kind == ConvolutionKind::Full
            && window.before == [0; 2]
            && window.after == [0; 2]
            && reader.inputs[0] == outlet
            && !reader.has_residual
            && reader.after == After::Function(Activation::None)
    }

    /// The steps of a convolution of plain pixels; gives the picture of its results.
    pub fn planes(
        &mut self,
        input: PictureId,
        draft: &Draft,
        convolution: &ConvolutionDraft,
    ) -> Result<PictureId, KernelError> {
        let refused = |reason| KernelError::Window { reason };
        let (weights, scales) =
            self.weights(convolution).ok_or_else(|| refused("scales vary within a channel"))?;
        let pixels = self.passes.pixels.clone().ok_or_else(|| refused("there are no pixels"))?;
        let size = self.pictures[input].size;
        let (channels, outputs) = (size.channels, scales.len());
        let of_channel = |channel: usize| -> Vec<i8> {
            weights.iter().skip(channel).step_by(channels).copied().collect()
        };
        let mut bias = convolution.bias.clone();
        for channel in 0..channels {
            let nothing = f64::from(pixels.mean[channel]) / f64::from(pixels.std[channel]);
            let plane = of_channel(channel);
            let rows = plane.chunks_exact(plane.len() / outputs);
            for (bias, (row, scale)) in bias.iter_mut().zip(rows.zip(&scales)) {
                let sum = row.iter().map(|w| i64::from(*w)).sum::<i64>() as f64;
                *bias = (f64::from(*bias) - sum * f64::from(*scale) * nothing) as f32;
            }
        }
        let mut result = None;
        for channel in 0..channels {
            let scale = 1.0 / (255.0 * pixels.std[channel]);
            let form = Form::Bytes(Quantisation { scale, zero_point: 0 });
            let plane = self.picture(Size { channels: 1, ..size }, form);
            self.steps.push(Step::Plane { input, channel, output: plane });
            let kernel = Convolution::new(
                self.passes.machine,
                &of_channel(channel),
                outputs,
                1,
                convolution.window,
                &scales,
                result.is_none().then_some(&bias[..]),
            )?;
            let operation = Operation::ConvolutionToFloats { kernel, activation: Activation::None };
            let output = self.picture(draft.size, Form::Floats);
            let layer = Layer { operation, input: plane, residual: result, output };
            self.steps.push(Step::Chain(vec![layer]));
            result = Some(output);
        }
        result.ok_or_else(|| refused("it has no input channels"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pixels;

    #[test]
    fn only_pixels_of_one_scale_are_exact_together() {
        let exact = |mean: [f32; 3], std: [f32; 3]| {
            Pixels { mean: mean.to_vec(), std: std.to_vec() }.together().unwrap().1
        };
        assert!(exact([127.0 / 255.0; 3], [128.0 / 255.0; 3]));
        assert!(exact([0.0; 3], [1.0; 3]));
        assert!(!exact([0.481, 0.458, 0.408], [0.269, 0.261, 0.276]));
        // Zero is no byte.
        assert!(!exact([0.5; 3], [0.5; 3]));
        let pixels = Pixels { mean: vec![0.481, 0.458, 0.408], std: vec![0.269, 0.261, 0.276] };
        for byte in 0..=255 {
            assert!(
                (0..3).all(|channel| pixels.byte(pixels.value(byte, channel), channel) == byte)
            );
        }
    }
}
