//! Kernels made from stored weights.

use crate::kernel::{
    Activation, Convolution, Depthwise, DepthwiseFloat, KernelError, Linear, Quantisation,
    StaticOutput,
};

use super::build::Builder;
use super::draft::{After, ConvolutionDraft, ConvolutionKind};
use super::program::{Form, Operation, PictureId};

impl Builder<'_, '_> {
    /// The weights of a convolution in the order of the kernels: for full convolutions output
    /// channel, row, column, input channel; for depthwise ones row, column, channel. With scales.
    pub fn weights(&self, convolution: &ConvolutionDraft) -> Option<(Vec<i8>, Vec<f32>)> {
        let stored = &self.passes.weights[convolution.weight];
        let [outputs, inputs, height, width] = stored.shape[..] else { return None };
        let scales: Vec<f32> = match stored.axis {
            None => convolution.factors.iter().map(|f| f * stored.scales[0]).collect(),
            Some(0) => convolution.factors.iter().zip(&stored.scales).map(|(f, s)| f * s).collect(),
            Some(_) => return None,
        };
        let values = stored.values();
        self.passes.packed(convolution.weight);
        let taps = height * width;
        let ordered = match convolution.kind {
            ConvolutionKind::Full if taps == 1 => values,
            ConvolutionKind::Full => {
                let mut ordered = Vec::with_capacity(values.len());
                for output in values.chunks_exact(inputs * taps) {
                    for tap in 0..taps {
                        ordered.extend((0..inputs).map(|input| output[input * taps + tap]));
                    }
                }
                ordered
            }
            ConvolutionKind::Depthwise { .. } => (0..taps)
                .flat_map(|tap| (0..outputs).map(move |channel| channel * taps + tap))
                .map(|at| values[at])
                .collect(),
        };
        Some((ordered, scales))
    }

    fn convolution_kernel(
        &self,
        convolution: &ConvolutionDraft,
        (weights, scales): &(Vec<i8>, Vec<f32>),
    ) -> Result<Convolution, KernelError> {
        let window = convolution.window;
        let outputs = scales.len();
        let channels = weights.len() / outputs / window.kernel[0] / window.kernel[1];
        let bias = Some(&convolution.bias[..]);
        Convolution::new(self.passes.machine, weights, outputs, channels, window, scales, bias)
    }

    fn depthwise_kernel(
        &self,
        convolution: &ConvolutionDraft,
        (weights, scales): &(Vec<i8>, Vec<f32>),
    ) -> Result<Depthwise, KernelError> {
        let bias = Some(&convolution.bias[..]);
        Depthwise::new(self.passes.machine, weights, scales.len(), convolution.window, scales, bias)
    }

    pub fn static_operation(
        &self,
        (input, residual, quantisation): (PictureId, Option<PictureId>, Quantisation),
        after: After,
        convolution: &ConvolutionDraft,
        weights: &(Vec<i8>, Vec<f32>),
    ) -> Result<Operation, KernelError> {
        let known = |picture: PictureId| match self.pictures[picture].form {
            Form::Bytes(quantisation) => Ok(quantisation),
            _ => Err(KernelError::Window { reason: "its input is not quantised" }),
        };
        let range = match after {
            After::Function(Activation::Relu) => (0.0, f32::INFINITY),
            After::Function(Activation::Relu6) => (0.0, 6.0),
            After::Function(_) => (f32::NEG_INFINITY, f32::INFINITY),
            After::Clamp(low, high) => (low, high),
        };
        let residual = residual.map(known).transpose()?;
        let output = StaticOutput { quantisation, range, residual };
        let input = known(input)?;
        Ok(match convolution.kind {
            ConvolutionKind::Full => {
                let kernel = self.convolution_kernel(convolution, weights)?;
                let plan = kernel.requantisation(input, output)?;
                Operation::Convolution { kernel, plan }
            }
            ConvolutionKind::Depthwise { .. } => {
                let kernel = self.depthwise_kernel(convolution, weights)?;
                let plan = kernel.requantisation(input, output)?;
                Operation::Depthwise { kernel, plan }
            }
        })
    }

    pub fn operation_to_floats(
        &self,
        convolution: &ConvolutionDraft,
        weights: &(Vec<i8>, Vec<f32>),
        activation: Activation,
    ) -> Result<Operation, KernelError> {
        Ok(match convolution.kind {
            ConvolutionKind::Full => {
                let kernel = self.convolution_kernel(convolution, weights)?;
                Operation::ConvolutionToFloats { kernel, activation }
            }
            ConvolutionKind::Depthwise { .. } => {
                let kernel = self.depthwise_kernel(convolution, weights)?;
                Operation::DepthwiseToFloats { kernel, activation }
            }
        })
    }

    pub fn linear(
        &self,
        convolution: &ConvolutionDraft,
        (weights, scales): &(Vec<i8>, Vec<f32>),
        activation: Activation,
    ) -> Result<Operation, KernelError> {
        let (outputs, bias) = (scales.len(), Some(&convolution.bias[..]));
        let inputs = weights.len() / outputs;
        let kernel = Linear::new(self.passes.machine, weights, outputs, inputs, scales, bias)?;
        Ok(Operation::Pointwise { kernel, activation })
    }

    pub fn depthwise_floats(
        &self,
        convolution: &ConvolutionDraft,
        (weights, scales): &(Vec<i8>, Vec<f32>),
        activation: Activation,
    ) -> Result<Operation, KernelError> {
        let channels = scales.len();
        let floats: Vec<f32> =
            weights.iter().enumerate().map(|(i, w)| f32::from(*w) * scales[i % channels]).collect();
        let kernel = DepthwiseFloat::new(
            self.passes.machine,
            &floats,
            channels,
            convolution.window,
            Some(&convolution.bias),
        )?;
        Ok(Operation::DepthwiseFloats { kernel, activation })
    }
}
