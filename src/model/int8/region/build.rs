//! From the layers of a region to a program: which pictures are bytes, and the kernels.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use crate::kernel::{Activation, KernelError, Quantisation, Window};

use super::super::Passes;
use super::draft::{After, ConvolutionDraft, ConvolutionKind, Draft, DraftKind, Region, Size};
use super::planes::PLAIN_BYTES;
use super::program::{self, Form, Layer, Operation, Picture, PictureId, Program, Step};
use super::recognise::size_of;

/// Pictures of fewer pixels stay floats: there is little to gain, and each pixel of theirs may be
/// quantised with a range of its own.
const FEWEST_PIXELS: usize = 4;

/// A program under construction.
pub(super) struct Builder<'p, 'a> {
    pub passes: &'p mut Passes<'a>,
    pub pictures: Vec<Picture>,
    pub steps: Vec<Step>,
    /// The picture an outlet was first made as.
    made: HashMap<OutletId, PictureId>,
    /// The picture that holds the bytes of pixels as they are.
    pub pixels: Option<PictureId>,
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
    // All pictures of a region are as many at a time.
    let batch = |outlet: &OutletId| Ok(model.outlet_fact(*outlet)?.shape[0].clone());
    let ends = layers.iter().map(|draft| &draft.end);
    let batches =
        region.inputs.iter().chain(ends).map(batch).collect::<TractResult<Vec<TDim>>>()?;
    if batches.iter().any(|length| *length != batches[0]) {
        return Ok(None);
    }
    let machine = passes.machine;
    let mut builder = Builder {
        passes,
        pictures: Vec::new(),
        steps: Vec::new(),
        made: HashMap::new(),
        pixels: None,
        converted: HashMap::new(),
    };
    let mut inputs = Vec::new();
    for outlet in &region.inputs {
        let Some(size) = size_of(model, *outlet) else { return Ok(None) };
        let plain = builder.reads_plain_pixels(model, *outlet, size, layers);
        let form = match plain {
            true => Form::Bytes(PLAIN_BYTES),
            false => builder.form_of_input(model, *outlet, layers),
        };
        let id = builder.picture(size, form);
        builder.pixels = builder.pixels.or(plain.then_some(id));
        builder.made.insert(*outlet, id);
        inputs.push(id);
    }
    for draft in layers {
        if let Err(error) = builder.layer(model, draft) {
            let name = &model.node(draft.end.node).name;
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
    let steps = program::chain(builder.steps, &builder.pictures, &outputs);
    let inputs = (inputs, builder.pixels);
    Ok(Some(Program::new(machine, builder.pictures, steps, inputs, outputs)))
}

impl Builder<'_, '_> {
    pub fn picture(&mut self, size: Size, form: Form) -> PictureId {
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
        let stored = self.range(model, draft.end);
        if stored.is_some_and(|(low, high)| low == high) {
            // The quantiser found that bytes would be too coarse.
            return Form::Floats;
        }
        let range = match draft.after {
            After::Function(Activation::Relu6) => Some((0.0, 6.0)),
            After::Clamp(low, high) if low.is_finite() && high.is_finite() => Some((low, high)),
            After::Function(_) | After::Clamp(..) => stored,
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

    fn layer(&mut self, model: &TypedModel, draft: &Draft) -> Result<(), KernelError> {
        let first = self.made[&draft.inputs[0]];
        let activation = match draft.after {
            After::Function(function) => function,
            After::Clamp(..) => Activation::None,
        };
        let output = match &draft.kind {
            DraftKind::Convolution(convolution) if self.pixels == Some(first) => {
                let output = self.planes(first, draft, convolution)?;
                let wanted = self.form_of_output(model, draft);
                self.finish_floats(draft, output, None, Activation::None, wanted)
            }
            DraftKind::Convolution(convolution) => self.convolution(model, draft, convolution)?,
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
        Ok(())
    }

    /// Chooses a kernel for a convolution by the forms of its input and its result.
    fn convolution(
        &mut self,
        model: &TypedModel,
        draft: &Draft,
        convolution: &ConvolutionDraft,
    ) -> Result<PictureId, KernelError> {
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
        let Some(weights) = self.weights(convolution) else {
            return Err(KernelError::Window { reason: "scales vary within a channel" });
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
            return operation.map(|operation| {
                let layer = Layer { operation, input, residual, output };
                self.steps.push(Step::Chain(vec![layer]));
                output
            });
        }
        if matches!(draft.after, After::Clamp(..)) {
            return Err(KernelError::Window { reason: "its result is clamped" });
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
        let operation = operation?;
        let joins = matches!(operation, Operation::Pointwise { .. });
        let output = self.picture(draft.size, Form::Floats);
        let floats = residual.map(|residual| self.as_floats(residual));
        let own = if joins { floats } else { None };
        self.steps.push(Step::Chain(vec![Layer { operation, input, residual: own, output }]));
        Ok(self.finish_floats(draft, output, floats.filter(|_| !joins), activation, wanted))
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
}
