//! The tract operator that runs a region.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::source::TypedSource;

use crate::kernel::{activate, add_assign, global_average, global_average_static, quantise_slice};

use super::super::Passes;
use super::super::parallel::{self, Buffers};
use super::super::weight::floats;
use super::chain::{Job, View};
use super::draft::Size;
use super::layout::{
    Pixels, bytes_of_pixels, convert, import_pixels, interleave, repeat, separate,
};
use super::memory::{Data, Workspace};
use super::program::{Form, Picture, PictureId, Program, Step};

/// Runs a region: `f32 [batch, channels, height, width]` in and out, or pixels as
/// `u8 [batch, height, width, channels]` in.
#[derive(Debug, Clone)]
pub(crate) struct RegionOp {
    program: Arc<Program>,
    /// What bytes in the first input mean.
    pixels: Option<Arc<Pixels>>,
    shapes: Vec<TVec<TDim>>,
    buffers: Buffers,
    workspaces: Arc<Mutex<Vec<Workspace>>>,
}

impl RegionOp {
    pub fn new(program: Program, shapes: Vec<TVec<TDim>>, passes: &Passes) -> Self {
        Self {
            program: Arc::new(program),
            pixels: passes.pixels.clone(),
            shapes,
            buffers: passes.buffers.clone(),
            workspaces: Arc::default(),
        }
    }

    /// Runs the program on one picture of each input and hands each result to `output`.
    fn run_one(
        &self,
        workspace: &mut Workspace,
        input: impl Fn(usize, &mut Workspace) -> TractResult<Data>,
        mut output: impl FnMut(usize, &[f32], Size) -> TractResult<()>,
    ) -> TractResult<()> {
        let program = &*self.program;
        let mut live: Vec<Option<Data>> = program.pictures.iter().map(|_| None).collect();
        for (slot, picture) in program.inputs.iter().enumerate() {
            live[*picture] = Some(input(slot, workspace)?);
        }
        for (at, step) in program.steps.iter().enumerate() {
            let result = self.step(step, &live, workspace)?;
            live[step.writes()] = Some(result);
            for picture in step.reads().into_iter().chain([step.writes()]) {
                if program.last_use[picture] == at
                    && let Some(data) = live[picture].take()
                {
                    workspace.give_back(data);
                }
            }
        }
        for (slot, picture) in program.outputs.iter().enumerate() {
            let size = program.pictures[*picture].size;
            match live[*picture].as_ref().map(|data| data.view(size.elements())) {
                Some(View::Floats(values)) => output(slot, values, size)?,
                _ => bail!("an output of a region was not computed"),
            }
        }
        live.into_iter().flatten().for_each(|data| workspace.give_back(data));
        Ok(())
    }

    fn step(
        &self,
        step: &Step,
        live: &[Option<Data>],
        workspace: &mut Workspace,
    ) -> TractResult<Data> {
        let program = &*self.program;
        let machine = program.machine;
        let size = |picture: PictureId| program.pictures[picture].size;
        let view = |picture: PictureId| -> TractResult<View<'_>> {
            let data = live[picture].as_ref().context("a picture is read before it is made")?;
            Ok(data.view(size(picture).elements()))
        };
        let as_floats = |picture: PictureId| match view(picture)? {
            View::Floats(values) => Ok(values),
            View::Bytes(..) => bail!("a picture of floats is expected"),
        };
        let mut result = workspace.take(&program.pictures[step.writes()]);
        let length = size(step.writes()).elements();
        match (step, &mut result) {
            (Step::Chain(layers), _) => {
                let residuals = layers
                    .iter()
                    .map(|layer| layer.residual.map(view).transpose())
                    .collect::<TractResult<Vec<_>>>()?;
                let input = view(layers[0].input)?;
                let job = Job { machine, layers, pictures: &program.pictures, input, residuals };
                let threads = parallel::threads_for(machine, job.work());
                if job.runs_layer_by_layer(threads) {
                    return self.layer_by_layer(&job, workspace, result, threads);
                }
                job.run(result.writable(length), threads);
            }
            (Step::Convert { from, to }, result) => {
                convert(machine, view(*from)?, program.pictures[*to].form, result);
            }
            (Step::Add { a, b, activation, .. }, Data::Floats(out)) => {
                out[..length].copy_from_slice(as_floats(*a)?);
                if a != b {
                    add_assign(machine, &mut out[..length], as_floats(*b)?);
                }
                activate(machine, *activation, &mut out[..length]);
            }
            (Step::Scale { picture, factors, activation, .. }, Data::Floats(out)) => {
                let (x, factors) = (as_floats(*picture)?, as_floats(*factors)?);
                let channels = factors.len();
                for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    out.iter_mut().zip(x.iter().zip(factors)).for_each(|(o, (x, f))| *o = x * f);
                }
                activate(machine, *activation, &mut out[..length]);
            }
            (Step::GlobalAverage { input, .. }, Data::Floats(out)) => match view(*input)? {
                View::Bytes(bytes, quantisation) => {
                    global_average_static(machine, bytes, quantisation, &mut out[..length]);
                }
                View::Floats(values) => global_average(machine, values, &mut out[..length]),
            },
            (Step::RepeatChannels { input, multiplier, .. }, result) => {
                match (view(*input)?, result) {
                    (View::Bytes(from, _), Data::Bytes(to, _)) => {
                        repeat(from, *multiplier, &mut to.as_mut_slice()[..length]);
                    }
                    (View::Floats(from), Data::Floats(to)) => {
                        repeat(from, *multiplier, &mut to[..length]);
                    }
                    _ => bail!("repeated channels change their form"),
                }
            }
            (Step::Plane { input, channel, .. }, Data::Bytes(out, _)) => match view(*input)? {
                View::Bytes(bytes, _) => {
                    let plane = bytes[*channel..].iter().step_by(size(*input).channels);
                    let out = &mut out.as_mut_slice()[..length];
                    out.iter_mut().zip(plane).for_each(|(out, byte)| *out = *byte);
                }
                View::Floats(_) => bail!("a picture of bytes is expected"),
            },
            _ => bail!("a step of a region has a result of the wrong form"),
        }
        Ok(result)
    }

    /// Runs a chain with whole pictures between its layers.
    fn layer_by_layer(
        &self,
        job: &Job<'_>,
        workspace: &mut Workspace,
        mut result: Data,
        threads: usize,
    ) -> TractResult<Data> {
        let mut before: Option<Data> = None;
        for (i, layer) in job.layers.iter().enumerate() {
            let picture = &job.pictures[layer.output];
            let is_last = i + 1 == job.layers.len();
            let mut data = if is_last {
                std::mem::replace(&mut result, Data::Floats(Vec::new()))
            } else {
                workspace.take(picture)
            };
            let input = match &before {
                None => job.input,
                Some(data) => data.view(job.pictures[layer.input].size.elements()),
            };
            let one = Job {
                machine: job.machine,
                layers: std::slice::from_ref(layer),
                pictures: job.pictures,
                input,
                residuals: vec![job.residuals[i]],
            };
            one.run(data.writable(picture.size.elements()), threads);
            if let Some(used) = before.replace(data) {
                workspace.give_back(used);
            }
        }
        before.context("a chain has layers")
    }

    /// Brings one picture of a tract tensor into the form the program wants.
    fn import(
        &self,
        tensor: &Tensor,
        index: usize,
        id: PictureId,
        workspace: &mut Workspace,
    ) -> TractResult<Data> {
        let picture = &self.program.pictures[id];
        let mut data = workspace.take(picture);
        let length = picture.size.elements();
        let plain = self.pixels.as_ref().filter(|_| self.program.pixels == Some(id));
        if tensor.datum_type() == u8::datum_type() {
            let pixels =
                self.pixels.as_ref().context("bytes are given where floats are expected")?;
            let bytes = tensor.try_as_plain_ram()?.as_slice::<u8>()?;
            let bytes =
                bytes.get(index * length..(index + 1) * length).context("too few pixels")?;
            if let (Some(_), Data::Bytes(out, _)) = (plain, &mut data) {
                out.as_mut_slice()[..length].copy_from_slice(bytes);
                return Ok(data);
            }
            import_pixels(bytes, pixels, picture.size.channels, &mut data, length);
            return Ok(data);
        }
        let values = floats(tensor)?;
        let values = values.get(index * length..(index + 1) * length).context("input too short")?;
        match &mut data {
            Data::Floats(out) => interleave(values, picture.size, &mut out[..length]),
            Data::Bytes(out, quantisation) => {
                if let Some(pixels) = plain {
                    let out = &mut out.as_mut_slice()[..length];
                    bytes_of_pixels(values, pixels, picture.size, out);
                    return Ok(data);
                }
                let mut planes = vec![0; length];
                quantise_slice(self.program.machine, values, *quantisation, &mut planes);
                interleave(&planes, picture.size, &mut out.as_mut_slice()[..length]);
            }
        }
        Ok(data)
    }
}

impl PartialEq for RegionOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) && self.shapes == other.shapes
    }
}

impl Eq for RegionOp {}

impl Hash for RegionOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.program) as usize).hash(state);
    }
}

impl Op for RegionOp {
    fn name(&self) -> StaticName {
        "SextantRegion".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(self.program.steps.iter().map(|step| describe(&self.program, step)).collect())
    }

    op_as_typed_op!();
}

/// One line about a step.
fn describe(program: &Program, step: &Step) -> String {
    let picture = |id: PictureId| {
        let Picture { size, form } = &program.pictures[id];
        let form = match form {
            Form::Floats => "f32",
            Form::Bytes(_) => "u8",
            Form::MeasuredBytes => "u8 (measured)",
        };
        format!("{}×{}×{} {form}", size.height, size.width, size.channels)
    };
    match step {
        Step::Chain(layers) => {
            let first = layers.first().map_or(String::new(), |layer| picture(layer.input));
            let rest: Vec<String> = layers
                .iter()
                .map(|layer| {
                    let kernel = layer.operation.window().kernel;
                    let plus = if layer.residual.is_some() { " + residual" } else { "" };
                    format!("{}×{}{plus} {}", kernel[0], kernel[1], picture(layer.output))
                })
                .collect();
            format!("{first} ▸ {}", rest.join(" ▸ "))
        }
        Step::Convert { from, to } => format!("{} as {}", picture(*from), picture(*to)),
        other => format!("{:?}", other),
    }
}

impl EvalOp for RegionOp {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let program = &*self.program;
        let shapes = self
            .shapes
            .iter()
            .map(|shape| parallel::concrete_shape(shape, context))
            .collect::<TractResult<Vec<_>>>()?;
        let lock = || self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = lock().pop().unwrap_or_default();
        let mut outputs = Vec::new();
        for (shape, picture) in shapes.iter().zip(&program.outputs) {
            let size = program.pictures[*picture].size;
            ensure!(shape.iter().skip(1).product::<usize>() == size.elements());
            outputs.push(self.buffers.lend(shape)?);
        }
        let batch = shapes.first().map_or(0, |shape| shape[0]);
        for index in 0..batch {
            let import = |slot: usize, workspace: &mut Workspace| {
                self.import(&inputs[slot], index, program.inputs[slot], workspace)
            };
            self.run_one(&mut workspace, import, |slot, values, size| {
                let length = size.elements();
                outputs[slot].with_floats(|out| {
                    separate(values, size, &mut out[index * length..(index + 1) * length]);
                    Ok(())
                })
            })?;
        }
        lock().push(workspace);
        Ok(outputs.into_iter().map(|output| self.buffers.finish(output)).collect())
    }
}

impl TypedOp for RegionOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let fact = |shape: &TVec<TDim>| f32::fact(shape.iter().cloned().collect::<ShapeFact>());
        Ok(self.shapes.iter().map(fact).collect())
    }

    as_op!();
}

/// The graph with pixels as bytes for its first input; `None` unless that is a picture which only
/// regions read.
pub(in super::super) fn with_pixels(model: &TypedModel) -> TractResult<Option<TypedModel>> {
    let Some(&input) = model.inputs.first() else { return Ok(None) };
    let readers = model.outlet_successors(input);
    let reads_picture = |inlet: &InletId| {
        // What a region reads first is what its `pixels` speak of.
        inlet.slot == 0 && model.node(inlet.node).op_is::<RegionOp>()
    };
    let shape = &model.outlet_fact(input)?.shape;
    if readers.is_empty() || !readers.iter().all(reads_picture) || shape.rank() != 4 {
        return Ok(None);
    }
    let shape = [0, 2, 3, 1].map(|axis| shape[axis].clone());
    let fact = u8::fact(shape.into_iter().collect::<ShapeFact>());
    let mut model = model.clone();
    model.nodes[input.node].op = Box::new(TypedSource::new(fact.clone()));
    model.set_outlet_fact(input, fact)?;
    Ok(Some(model))
}
