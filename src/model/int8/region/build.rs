//! From the layers of a region to a program: which pictures are bytes, and the kernels.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use crate::kernel::{
    Activation, Convolution, Depthwise, DepthwiseFloat, KernelError, Linear, Quantisation,
    StaticOutput, Window,
};

use super::super::Passes;
use super::draft::{After, ConvolutionDraft, ConvolutionKind, Draft, DraftKind, Region, Size};
use super::program::{Form, Layer, Operation, Picture, PictureId, Program, Step};
use super::recognise::size_of;

/// Pictures of fewer pixels stay floats: there is little to gain, and each pixel of theirs may be
/// quantised with a range of its own.
const FEWEST_PIXELS: usize = 4;

/// A program under construction.
struct Builder<'p, 'a> {
    passes: &'p mut Passes<'a>,
    pictures: Vec<Picture>,
    steps: Vec<Step>,
    /// The picture an outlet was first made as.
    made: HashMap<OutletId, PictureId>,
    /// Pictures made from others by conversion.
    converted: HashMap<(PictureId, &'static str), PictureId>,
}

/// Builds the program of a region; `None`, with a note, if a kernel refuses its parameters.
pub(super) fn program(
    passes: &mut Passes,
    model: &TypedModel,
    region: &Region,
    layers: &[&Draft],
) -> TractResult<Option<Program>> {
    let machine = passes.machine;
    let mut builder = Builder {
        passes,
        pictures: Vec::new(),
        steps: Vec::new(),
        made: HashMap::new(),
        converted: HashMap::new(),
    };
    let mut inputs = Vec::new();
    for outlet in &region.inputs {
        let Some(size) = size_of(model, *outlet) else { return Ok(None) };
        let form = builder.form_of_input(model, *outlet, layers);
        let id = builder.picture(size, form);
        builder.made.insert(*outlet, id);
        inputs.push(id);
    }
    for draft in layers {
        let name = model.node(draft.nodes.last().copied().unwrap_or(draft.end.node)).name.clone();
        if let Err(error) = builder.layer(model, draft, &name)? {
            builder.passes.report.notes.push(format!("{name}: {error}; the region stays in f32"));
            return Ok(None);
        }
    }
    let outputs: Vec<PictureId> = (region.outputs.iter())
        .map(|outlet| {
            let made = builder.made[outlet];
            builder.as_floats(made)
        })
        .collect();
    let steps = chain(builder.steps, &builder.pictures, &outputs);
    Ok(Some(Program::new(machine, builder.pictures, steps, inputs, outputs)))
}

impl Builder<'_, '_> {
    fn picture(&mut self, size: Size, form: Form) -> PictureId {
        self.pictures.push(Picture { size, form });
        self.pictures.len() - 1
    }

    /// The known range of the values of an outlet.
    fn range(&self, model: &TypedModel, outlet: OutletId) -> Option<(f32, f32)> {
        let name = &model.node(outlet.node).name;
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let ranges = &self.passes.ranges;
        ranges.get(name).or_else(|| ranges.get(stem)).copied()
    }

    fn form_of_input(&self, model: &TypedModel, outlet: OutletId, layers: &[&Draft]) -> Form {
        let convolved = layers.iter().any(|draft| {
            draft.inputs[0] == outlet && matches!(draft.kind, DraftKind::Convolution(_))
        });
        match self.range(model, outlet).and_then(|(l, h)| Quantisation::covering(l, h).ok()) {
            Some(quantisation) if convolved => Form::Bytes(quantisation),
            _ => Form::Floats,
        }
    }

    /// How the result of a layer is best held.
    fn form_of_output(&self, model: &TypedModel, draft: &Draft) -> Form {
        let range = match draft.after {
            After::Function(Activation::Relu6) => Some((0.0, 6.0)),
            After::Clamp(low, high) if low.is_finite() && high.is_finite() => Some((low, high)),
            After::Function(_) | After::Clamp(..) => self.range(model, draft.end),
        };
        let linear = matches!(
            draft.after,
            After::Function(Activation::None | Activation::Relu | Activation::Relu6)
                | After::Clamp(..)
        );
        match range.and_then(|(low, high)| Quantisation::covering(low, high).ok()) {
            Some(quantisation) if linear && draft.size.pixels() >= FEWEST_PIXELS => {
                Form::Bytes(quantisation)
            }
            _ => Form::Floats,
        }
    }

    /// The picture in the form of floats.
    fn as_floats(&mut self, picture: PictureId) -> PictureId {
        self.convert(picture, Form::Floats, "floats")
    }

    /// The picture as bytes of any quantisation.
    fn as_bytes(&mut self, picture: PictureId) -> PictureId {
        match self.pictures[picture].form {
            Form::Floats => self.convert(picture, Form::MeasuredBytes, "bytes"),
            _ => picture,
        }
    }

    fn convert(&mut self, picture: PictureId, form: Form, kind: &'static str) -> PictureId {
        if self.pictures[picture].form == form {
            return picture;
        }
        if let Some(found) = self.converted.get(&(picture, kind)) {
            return *found;
        }
        let to = self.picture(self.pictures[picture].size, form);
        self.steps.push(Step::Convert { from: picture, to });
        self.converted.insert((picture, kind), to);
        to
    }

    fn layer(
        &mut self,
        model: &TypedModel,
        draft: &Draft,
        name: &str,
    ) -> TractResult<Result<(), KernelError>> {
        let first = self.made[&draft.inputs[0]];
        let activation = match draft.after {
            After::Function(function) => function,
            After::Clamp(..) => Activation::None,
        };
        let output = match &draft.kind {
            DraftKind::Convolution(convolution) => {
                let result = self.convolution(model, draft, convolution, name)?;
                match result {
                    Ok(picture) => picture,
                    Err(error) => return Ok(Err(error)),
                }
            }
            DraftKind::GlobalAverage => {
                let input = match self.pictures[first].form {
                    Form::MeasuredBytes => self.as_floats(first),
                    _ => first,
                };
                let output = self.picture(draft.size, Form::Floats);
                self.steps.push(Step::GlobalAverage { input, output });
                output
            }
            DraftKind::Add => {
                let second = self.made[&draft.inputs[1]];
                let (a, b) = (self.as_floats(first), self.as_floats(second));
                let output = self.picture(draft.size, Form::Floats);
                self.steps.push(Step::Add { a, b, activation, output });
                output
            }
            DraftKind::Scale => {
                let second = self.made[&draft.inputs[1]];
                let (picture, factors) = (self.as_floats(first), self.as_floats(second));
                let output = self.picture(draft.size, Form::Floats);
                self.steps.push(Step::Scale { picture, factors, activation, output });
                output
            }
        };
        self.made.insert(draft.end, output);
        Ok(Ok(()))
    }

    /// Chooses a kernel for a convolution by the forms of its input and its result.
    fn convolution(
        &mut self,
        model: &TypedModel,
        draft: &Draft,
        convolution: &ConvolutionDraft,
        name: &str,
    ) -> TractResult<Result<PictureId, KernelError>> {
        let mut input = self.made[&draft.inputs[0]];
        let residual = draft.has_residual.then(|| self.made[&draft.inputs[1]]);
        let wanted = self.form_of_output(model, draft);
        if let ConvolutionKind::Depthwise { multiplier } = convolution.kind
            && multiplier > 1
        {
            let size = self.pictures[input].size;
            let repeated = Size { channels: size.channels * multiplier, ..size };
            let output = self.picture(repeated, self.pictures[input].form);
            self.steps.push(Step::RepeatChannels { input, multiplier, output });
            input = output;
        }
        let is_depthwise = matches!(convolution.kind, ConvolutionKind::Depthwise { .. });
        let unit = convolution.window == Window::square(1, 1, 0);
        let residual_is_bytes =
            residual.is_none_or(|r| matches!(self.pictures[r].form, Form::Bytes(_)));
        let from_bytes = matches!(self.pictures[input].form, Form::Bytes(_));
        let no_depthwise_residual = !is_depthwise || residual.is_none();
        let activation = match draft.after {
            After::Function(function) => function,
            After::Clamp(..) => Activation::None,
        };
        let Some(weights) = self.weights(convolution)? else {
            return Ok(Err(KernelError::Window { reason: "scales vary within a channel" }));
        };
        if let Form::Bytes(quantisation) = wanted
            && from_bytes
            && residual_is_bytes
            && no_depthwise_residual
        {
            let output = self.picture(draft.size, wanted);
            let operation = self.static_operation(
                (input, residual, quantisation),
                draft.after,
                convolution,
                &weights,
            );
            return Ok(operation.map(|operation| {
                let name = name.to_owned();
                let layer = Layer { name, operation, input, residual, output };
                self.steps.push(Step::Chain(vec![layer]));
                output
            }));
        }
        if matches!(draft.after, After::Clamp(..)) {
            return Ok(Err(KernelError::Window { reason: "its result is clamped" }));
        }
        // Floats come out. What has a residual is activated after it was added.
        let fused = if residual.is_some() { Activation::None } else { activation };
        let operation = if unit && !is_depthwise && !from_bytes {
            input = self.as_floats(input);
            self.linear(convolution, &weights, fused)
        } else if is_depthwise && !from_bytes {
            input = self.as_floats(input);
            self.depthwise_floats(convolution, &weights, fused)
        } else {
            input = self.as_bytes(input);
            self.operation_to_floats(convolution, &weights, fused)
        };
        let operation = match operation {
            Ok(operation) => operation,
            Err(error) => return Ok(Err(error)),
        };
        let joins = matches!(operation, Operation::Pointwise { .. });
        let output = self.picture(draft.size, Form::Floats);
        let floats = residual.map(|residual| self.as_floats(residual));
        let own = if joins { floats } else { None };
        self.steps.push(Step::Chain(vec![Layer {
            name: name.to_owned(),
            operation,
            input,
            residual: own,
            output,
        }]));
        Ok(Ok(self.finish_floats(draft, output, floats.filter(|_| !joins), activation, wanted)))
    }

    /// Adds the residual to a picture of floats, applies the activation function that waited for
    /// it, and converts to the form wanted.
    fn finish_floats(
        &mut self,
        draft: &Draft,
        mut output: PictureId,
        residual: Option<PictureId>,
        activation: Activation,
        wanted: Form,
    ) -> PictureId {
        if let Some(b) = residual {
            let sum = self.picture(draft.size, Form::Floats);
            self.steps.push(Step::Add { a: output, b, activation, output: sum });
            output = sum;
        } else if draft.has_residual && activation != Activation::None {
            // The kernel added the residual itself; adding nothing applies the function.
            let sum = self.picture(draft.size, Form::Floats);
            self.steps.push(Step::Add { a: output, b: output, activation, output: sum });
            output = sum;
        }
        match wanted {
            Form::Floats | Form::MeasuredBytes => output,
            Form::Bytes(_) => self.convert(output, wanted, "static"),
        }
    }

    /// The weights of a convolution in the order of the kernels: for full convolutions output
    /// channel, row, column, input channel; for depthwise ones row, column, channel. With scales.
    fn weights(&self, convolution: &ConvolutionDraft) -> TractResult<Option<(Vec<i8>, Vec<f32>)>> {
        let stored = &self.passes.weights[convolution.weight];
        let [outputs, inputs, height, width] = stored.shape[..] else { return Ok(None) };
        let scales: Vec<f32> = match stored.axis {
            None => convolution.factors.iter().map(|f| f * stored.scales[0]).collect(),
            Some(0) => convolution.factors.iter().zip(&stored.scales).map(|(f, s)| f * s).collect(),
            Some(_) => return Ok(None),
        };
        let values = stored.values();
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
        Ok(Some((ordered, scales)))
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

    fn static_operation(
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

    fn operation_to_floats(
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

    fn linear(
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

    fn depthwise_floats(
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

/// Joins layers into chains where a picture is read by the next layer only.
fn chain(steps: Vec<Step>, pictures: &[Picture], outputs: &[PictureId]) -> Vec<Step> {
    let mut readers = vec![0; pictures.len()];
    for picture in steps.iter().flat_map(Step::reads).chain(outputs.iter().copied()) {
        readers[picture] += 1;
    }
    let mut joined: Vec<Step> = Vec::new();
    for step in steps {
        let Step::Chain(mut layers) = step else {
            joined.push(step);
            continue;
        };
        let input = layers[0].input;
        let before = joined.iter().position(|step| match step {
            Step::Chain(chain) => {
                chain.last().is_some_and(|last| last.output == input)
                    && readers[input] == 1
                    && !is_full(chain, &layers[0], pictures)
            }
            _ => false,
        });
        match before.map(|at| joined.remove(at)) {
            // The chain moves behind steps that came after it: none of them reads what it makes.
            Some(Step::Chain(mut chain)) => {
                chain.append(&mut layers);
                joined.push(Step::Chain(chain));
            }
            _ => joined.push(Step::Chain(layers)),
        }
    }
    joined
}

/// Whether a chain should end rather than take another layer: once it has a kernel wider than a pixel
/// that looks at rows of the chain, it ends where the next layer widens the picture. So the
/// largest pictures lie inside chains and the smallest between them.
fn is_full(chain: &[Layer], next: &Layer, pictures: &[Picture]) -> bool {
    let looks_around = |layer: &Layer| layer.operation.window().kernel != [1, 1];
    let elements = |picture: PictureId| pictures[picture].size.elements();
    chain[1..].iter().any(looks_around)
        && (elements(next.output) > elements(next.input) || looks_around(next))
}
