//! The tract operator that runs a region.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::kernel::{
    AlignedBytes, Machine, Quantisation, activate, add_assign, global_average,
    global_average_static, quantise_slice, range_with_zero,
};

use super::super::parallel::{self, Buffers};
use super::super::weight::floats;
use super::chain::{Job, View, ViewMut};
use super::draft::Size;
use super::program::{Form, Picture, PictureId, Program, Step};

/// How the bytes of pixels become the numbers a graph takes: `(byte / 255 - mean) / std`, by
/// channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Mean of each channel, on a scale from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Vec<f32>,
}

impl Pixels {
    /// The number that a byte stands for in a channel.
    pub fn value(&self, byte: u8, channel: usize) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// The smallest and the largest number that pixels stand for.
    pub fn range(&self) -> (f32, f32) {
        (0..self.mean.len())
            .flat_map(|c| [self.value(0, c), self.value(255, c)])
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
    }
}

/// Runs a region: `f32 [batch, channels, height, width]` in and out, or pixels as
/// `u8 [batch, height, width, channels]` in.
#[derive(Debug, Clone)]
pub(crate) struct RegionOp {
    program: Arc<Program>,
    /// What bytes in the first input mean.
    pub pixels: Option<Arc<Pixels>>,
    shapes: Vec<TVec<TDim>>,
    buffers: Buffers,
    workspaces: Arc<Mutex<Vec<Workspace>>>,
}

/// Memory of pictures, used again from run to run.
#[derive(Debug, Default)]
struct Workspace {
    bytes: Vec<AlignedBytes>,
    floats: Vec<Vec<f32>>,
}

/// A picture while the program runs.
#[derive(Debug)]
enum Data {
    Bytes(AlignedBytes, Quantisation),
    Floats(Vec<f32>),
}

impl Workspace {
    /// Memory for a picture. Bytes measured later have a quantisation of 1 until then.
    fn take(&mut self, picture: &Picture) -> Data {
        let length = picture.size.elements();
        let quantisation = match picture.form {
            Form::Bytes(quantisation) => quantisation,
            _ => Quantisation { scale: 1.0, zero_point: 0 },
        };
        if picture.form == Form::Floats {
            let mut floats = best(&mut self.floats, length, Vec::capacity).unwrap_or_default();
            floats.resize(length, 0.0);
            return Data::Floats(floats);
        }
        let held = |bytes: &AlignedBytes| bytes.as_slice().len();
        let mut bytes = best(&mut self.bytes, length, held).unwrap_or_default();
        bytes.reserve(length.max(held(&bytes)));
        Data::Bytes(bytes, quantisation)
    }

    fn give_back(&mut self, data: Data) {
        match data {
            Data::Bytes(bytes, _) => self.bytes.push(bytes),
            Data::Floats(floats) => self.floats.push(floats),
        }
    }
}

/// Takes the smallest buffer of at least `length`, or else the largest.
fn best<T>(free: &mut Vec<T>, length: usize, size: impl Fn(&T) -> usize) -> Option<T> {
    let fits =
        (0..free.len()).filter(|i| size(&free[*i]) >= length).min_by_key(|i| size(&free[*i]));
    let found = fits.or_else(|| (0..free.len()).max_by_key(|i| size(&free[*i])));
    found.map(|at| free.swap_remove(at))
}

impl Data {
    fn view(&self, length: usize) -> View<'_> {
        match self {
            Data::Bytes(bytes, quantisation) => {
                View::Bytes(&bytes.as_slice()[..length], *quantisation)
            }
            Data::Floats(floats) => View::Floats(&floats[..length]),
        }
    }

    fn writable(&mut self, length: usize) -> ViewMut<'_> {
        match self {
            Data::Bytes(bytes, _) => ViewMut::Bytes(&mut bytes.as_mut_slice()[..length]),
            Data::Floats(floats) => ViewMut::Floats(&mut floats[..length]),
        }
    }
}

impl RegionOp {
    pub fn new(program: Program, shapes: Vec<TVec<TDim>>, buffers: &Buffers) -> Self {
        Self {
            program: Arc::new(program),
            pixels: None,
            shapes,
            buffers: buffers.clone(),
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
                let threads = parallel::threads_for(job.work());
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
        picture: &Picture,
        workspace: &mut Workspace,
    ) -> TractResult<Data> {
        let mut data = workspace.take(picture);
        let length = picture.size.elements();
        if tensor.datum_type() == u8::datum_type() {
            let pixels =
                self.pixels.as_ref().context("bytes are given where floats are expected")?;
            let bytes = tensor.try_as_plain_ram()?.as_slice::<u8>()?;
            let bytes =
                bytes.get(index * length..(index + 1) * length).context("too few pixels")?;
            import_pixels(bytes, pixels, picture.size.channels, &mut data, length);
            return Ok(data);
        }
        let values = floats(tensor)?;
        let values = values.get(index * length..(index + 1) * length).context("input too short")?;
        match &mut data {
            Data::Floats(out) => interleave(values, picture.size, &mut out[..length]),
            Data::Bytes(out, quantisation) => {
                let mut planes = vec![0; length];
                quantise_slice(self.program.machine, values, *quantisation, &mut planes);
                interleave(&planes, picture.size, &mut out.as_mut_slice()[..length]);
            }
        }
        Ok(data)
    }
}

/// Pixels, channels last, to the form wanted.
fn import_pixels(bytes: &[u8], pixels: &Pixels, channels: usize, data: &mut Data, length: usize) {
    match data {
        Data::Floats(out) => {
            for (out, bytes) in
                out[..length].chunks_exact_mut(channels).zip(bytes.chunks_exact(channels))
            {
                for (channel, (out, byte)) in out.iter_mut().zip(bytes).enumerate() {
                    *out = pixels.value(*byte, channel);
                }
            }
        }
        Data::Bytes(out, quantisation) => {
            let out = &mut out.as_mut_slice()[..length];
            let tables: Vec<[u8; 256]> = (0..channels)
                .map(|c| std::array::from_fn(|b| quantisation.quantise(pixels.value(b as u8, c))))
                .collect();
            let identity = |table: &[u8; 256]| (0..=255u8).all(|b| table[usize::from(b)] == b);
            if tables.iter().all(identity) {
                out.copy_from_slice(bytes);
                return;
            }
            for (out, bytes) in out.chunks_exact_mut(channels).zip(bytes.chunks_exact(channels)) {
                for (table, (out, byte)) in tables.iter().zip(out.iter_mut().zip(bytes)) {
                    *out = table[usize::from(*byte)];
                }
            }
        }
    }
}

/// Plane after plane to channels last.
fn interleave<T: Copy>(planes: &[T], size: Size, out: &mut [T]) {
    let pixels = size.pixels();
    if pixels == 1 {
        return out.copy_from_slice(planes);
    }
    // In blocks of pixels, so that the lines written stay in the cache.
    const BLOCK: usize = 64;
    for start in (0..pixels).step_by(BLOCK) {
        let end = (start + BLOCK).min(pixels);
        for (channel, plane) in planes.chunks_exact(pixels).enumerate() {
            for (i, value) in plane[start..end].iter().enumerate() {
                out[(start + i) * size.channels + channel] = *value;
            }
        }
    }
}

/// Channels last to plane after plane.
fn separate(values: &[f32], size: Size, out: &mut [f32]) {
    let pixels = size.pixels();
    if pixels == 1 {
        return out.copy_from_slice(values);
    }
    const BLOCK: usize = 64;
    for start in (0..pixels).step_by(BLOCK) {
        let end = (start + BLOCK).min(pixels);
        for (channel, plane) in out.chunks_exact_mut(pixels).enumerate() {
            for (i, value) in plane[start..end].iter_mut().enumerate() {
                *value = values[(start + i) * size.channels + channel];
            }
        }
    }
}

fn repeat<T: Copy>(from: &[T], multiplier: usize, to: &mut [T]) {
    for (to, value) in to.chunks_exact_mut(multiplier).zip(from) {
        to.fill(*value);
    }
}

fn convert(machine: Machine, from: View, form: Form, to: &mut Data) {
    match (from, to) {
        (View::Floats(values), Data::Bytes(out, quantisation)) => {
            if form == Form::MeasuredBytes {
                let (low, high) = range_with_zero(machine, values);
                if let Ok(measured) = Quantisation::covering(low, high) {
                    *quantisation = measured;
                }
            }
            quantise_slice(machine, values, *quantisation, &mut out.as_mut_slice()[..values.len()]);
        }
        (View::Bytes(bytes, quantisation), Data::Floats(out)) => {
            let table: [f32; 256] = std::array::from_fn(|b| quantisation.dequantise(b as u8));
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = table[usize::from(*byte)]);
        }
        (View::Floats(values), Data::Floats(out)) => out[..values.len()].copy_from_slice(values),
        (View::Bytes(bytes, from), Data::Bytes(out, to)) => {
            let table: [u8; 256] = std::array::from_fn(|b| to.quantise(from.dequantise(b as u8)));
            let out = out.as_mut_slice();
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = table[usize::from(*byte)]);
        }
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
                let picture = &program.pictures[program.inputs[slot]];
                self.import(&inputs[slot], index, picture, workspace)
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

/// Whether a graph's input may hold pixels as bytes: only regions read it.
pub(crate) fn reads_pixels(model: &TypedModel, outlet: OutletId) -> bool {
    !model.outlet_successors(outlet).is_empty()
        && model
            .outlet_successors(outlet)
            .iter()
            .all(|inlet| inlet.slot == 0 && model.node(inlet.node).op_is::<RegionOp>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_and_separating_are_inverse() {
        for (height, width, channels) in [(1, 1, 5), (3, 50, 4), (9, 9, 7)] {
            let size = Size { height, width, channels };
            let planes: Vec<f32> = (0..size.elements()).map(|i| i as f32).collect();
            let mut last = vec![0.0; planes.len()];
            interleave(&planes, size, &mut last);
            assert_eq!(
                last[channels.min(last.len() - 1)],
                if height * width > 1 { 1.0 } else { 4.0 }
            );
            let mut back = vec![0.0; planes.len()];
            separate(&last, size, &mut back);
            assert_eq!(planes, back);
        }
    }

    #[test]
    fn pixels_of_the_default_model_are_their_own_quantisation() {
        let pixels = Pixels { mean: vec![127.0 / 255.0; 3], std: vec![128.0 / 255.0; 3] };
        let (low, high) = pixels.range();
        let quantisation = Quantisation::covering(low, high).unwrap();
        for byte in 0..=255 {
            assert_eq!(quantisation.quantise(pixels.value(byte, 1)), byte);
        }
    }
}
