//! Int8 execution of ONNX graphs: custom tract operators and the passes that put them into
//! tract's graph.
//!
//! The weights of a quantised graph stay int8 from the file to the packed operand of a kernel;
//! no `f32` copy of an absorbed weight is ever made. What the passes do not recognise runs on
//! tract as it is, in `f32`, and is named in the [`Report`].
//!
//! ```text
//! file ─▶ onnx (weights and ranges set aside) ─▶ tract's typed graph ─▶ region (convolutions)
//!      ─▶ tract's declutter ─▶ layer_norm ▸ attention ▸ linear ▸ gather ─▶ tract's optimiser
//! ```

mod activation_pairs;
mod attention;
mod attention_mask;
mod attention_op;
mod crew;
mod error;
mod fuse;
mod gather;
mod layer_norm;
mod linear;
mod linear_op;
pub(crate) mod onnx;
mod parallel;
mod region;
mod view;
mod weight;
mod wire;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_core::plan::SimplePlan;

use crate::kernel::Machine;

pub use error::Int8Error;
pub use onnx::{RANGES_KEY, WIDE_KEY};
pub use region::Pixels;

pub(super) use crew::attended;
use onnx::Prepared;
use parallel::Buffers;
use weight::{StoredWeight, WeightNode};

/// What a graph's input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floating point numbers, such as normalised pixels.
    Float,
    /// 64-bit integers, such as tokens.
    Integer,
}

/// One dimension of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// Always this long.
    Fixed(usize),
    /// Known when the graph runs; inputs that share a name share the length.
    Symbolic(String),
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name in the ONNX file.
    pub name: String,
    /// What it holds.
    pub element: Element,
    /// Its dimensions, outermost first.
    pub shape: Vec<Dimension>,
}

/// How a graph is to be compiled.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    /// The inputs, in the order in which the plan takes them.
    pub inputs: Vec<InputSpec>,
    /// Names of the outputs wanted, in order. What only other outputs need is not computed.
    pub outputs: Vec<String>,
    /// What pixels mean, if the first input is a picture.
    pub pixels: Option<Pixels>,
    /// The vector instructions to use.
    pub machine: Machine,
}

/// Which parts of a graph run on operators of this crate, and which on tract's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many operators of each kind were put in, by name.
    pub replaced: Vec<(&'static str, usize)>,
    /// Weights that nothing absorbed: they were dequantised and run in `f32` on tract.
    pub dequantised: Vec<String>,
    /// Kinds of operators left to tract, with their number.
    pub on_tract: Vec<(String, usize)>,
    /// Whatever else a person who wonders about speed should know.
    pub notes: Vec<String>,
}

/// A plan of tract's, ready to run.
pub type Plan = Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>;

/// A tract plan whose recognised parts run in int8.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The plan; run it inside a rayon pool to use several threads.
    pub plan: Plan,
    /// The same for pixels as bytes, `u8 [batch, height, width, channels]`, as the first input:
    /// where [`CompileOptions::pixels`] says what they mean and only convolutions read them.
    pub pixel_plan: Option<Plan>,
    /// What became of the graph.
    pub report: Report,
}

/// What the passes share: the stored weights, the machine, and what they have done so far.
struct Passes<'a> {
    weights: Vec<StoredWeight<'a>>,
    ranges: HashMap<String, (f32, f32)>,
    wide: HashSet<String>,
    pixels: Option<Arc<Pixels>>,
    machine: Machine,
    buffers: Buffers,
    report: Report,
    released: Released<'a>,
}

/// Who wants to know which parts of the file have been read.
struct Released<'a> {
    file: &'a [u8],
    release: &'a (dyn Fn(Range<usize>) + Sync),
}

impl Passes<'_> {
    /// Tells that a weight has been packed, if it was read from the file in place.
    fn packed(&self, weight: usize) {
        if let Cow::Borrowed(bytes) = self.weights[weight].bytes {
            let start =
                (bytes.as_ptr() as usize).wrapping_sub(self.released.file.as_ptr() as usize);
            (self.released.release)(start..start + bytes.len());
        }
    }

    /// Runs a pass that tries to replace the sub-graph ending in each node, then tidies up.
    fn sweep(
        &mut self,
        model: &mut TypedModel,
        kind: &'static str,
        rewrite: impl Fn(&mut Self, &TypedModel, &TypedNode) -> TractResult<Option<TypedModelPatch>>,
    ) -> TractResult<()> {
        let mut count = 0;
        for id in model.eval_order()? {
            if let Some(patch) = rewrite(self, model, model.node(id))? {
                patch.apply(model)?;
                count += 1;
            }
        }
        if count > 0 {
            model.compact()?;
            self.report.replaced.push((kind, count));
        }
        Ok(())
    }
}

/// Compiles an ONNX graph, quantised or not.
///
/// # Errors
/// [`Int8Error`]: the file is damaged, lacks a tensor that is asked for, stores weights that no
/// symmetric quantisation can mean, or holds something that tract cannot run either.
pub fn compile(file: &[u8], options: &CompileOptions) -> Result<Compiled, Int8Error> {
    compile_releasing(file, options, &|_| {})
}

/// Compiles an ONNX graph as [`compile`] does, and says of each part of the file, as soon as its
/// weights are packed, that it will hardly be read again: whoever mapped the file can let go of
/// the memory.
///
/// # Errors
/// As for [`compile`].
pub fn compile_releasing(
    file: &[u8],
    options: &CompileOptions,
    release: &(dyn Fn(Range<usize>) + Sync),
) -> Result<Compiled, Int8Error> {
    let Prepared { proto, weights, mut ranges, wide, notes } = onnx::prepare(file)?;
    if let (Some(pixels), Some(input)) = (&options.pixels, options.inputs.first()) {
        ranges.insert(input.name.clone(), pixels.range());
    }
    let mut model = typed_model(&proto, &weights, options)?;
    drop(proto);
    let report = Report { notes, ..Report::default() };
    let buffers = Buffers::default();
    let pixels = options.pixels.clone().map(Arc::new);
    let machine = options.machine;
    let released = Released { file, release };
    let mut passes = Passes { weights, ranges, wide, pixels, machine, buffers, report, released };
    let (plan, pixel_plan) = run_passes(&mut model, &mut passes)
        .and_then(|()| finish(model, &mut passes))
        .map_err(Int8Error::unsupported)?;
    Ok(Compiled { plan, pixel_plan, report: passes.report })
}

/// Parses the graph and gives its inputs their shapes; each weight becomes a [`WeightNode`].
fn typed_model(
    proto: &tract_onnx::pb::ModelProto,
    weights: &[StoredWeight],
    options: &CompileOptions,
) -> Result<TypedModel, Int8Error> {
    check_names(proto, weights, options)?;
    typed_model_unchecked(proto, weights, &options.inputs, &options.outputs)
        .map_err(Int8Error::unsupported)
}

fn check_names(
    proto: &tract_onnx::pb::ModelProto,
    weights: &[StoredWeight],
    options: &CompileOptions,
) -> Result<(), Int8Error> {
    let graph = proto.graph.as_ref().ok_or(Int8Error::NoGraph)?;
    let is_weight = |name: &str| weights.iter().any(|w| w.name == name);
    let inputs: Vec<&str> =
        graph.input.iter().map(|i| i.name.as_str()).filter(|name| !is_weight(name)).collect();
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let check = |what, name: &str, present: &[&str]| match present.contains(&name) {
        true => Ok(()),
        false => Err(Int8Error::NoSuchTensor {
            what,
            name: name.to_owned(),
            present: present.join(", "),
        }),
    };
    options.inputs.iter().try_for_each(|input| check("input", &input.name, &inputs))?;
    options.outputs.iter().try_for_each(|name| check("output", name, &outputs))
}

fn typed_model_unchecked(
    proto: &tract_onnx::pb::ModelProto,
    weights: &[StoredWeight],
    inputs: &[InputSpec],
    outputs: &[String],
) -> TractResult<TypedModel> {
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let parsed = onnx.parse(proto, None)?;
    let mut model = parsed.model;
    let outlet = |name: &str| {
        parsed.outlets_by_name.get(name).copied().with_context(|| format!("no tensor {name}"))
    };
    let read = inputs.iter().map(|i| outlet(&i.name)).collect::<TractResult<Vec<_>>>()?;
    let made = outputs.iter().map(|n| outlet(n)).collect::<TractResult<Vec<_>>>()?;
    model.set_input_outlets(&read)?;
    model.select_output_outlets(&made)?;
    for (slot, input) in inputs.iter().enumerate() {
        let shape: TVec<TDim> = (input.shape.iter())
            .map(|dim| match dim {
                Dimension::Fixed(length) => length.to_dim(),
                Dimension::Symbolic(name) => model.symbols.sym(name).to_dim(),
            })
            .collect();
        let datum_type = match input.element {
            Element::Float => f32::datum_type(),
            Element::Integer => i64::datum_type(),
        };
        model.set_input_fact(slot, InferenceFact::dt_shape(datum_type, shape))?;
    }
    let mut model = model.into_typed()?;
    for (index, weight) in weights.iter().enumerate() {
        let found = model.nodes.iter().find(|n| n.name == weight.name && n.op_is::<TypedSource>());
        if let Some(id) = found.map(|node| node.id) {
            model.nodes[id].op =
                Box::new(WeightNode { index, shape: weight.shape.iter().copied().collect() });
        }
    }
    Ok(model)
}

/// Shapes of tensors of a graph, in the order of `names`; empty where one is not known before the
/// graph runs.
pub(crate) fn shapes(
    proto: &tract_onnx::pb::ModelProto,
    inputs: &[InputSpec],
    names: &[String],
) -> Result<Vec<Vec<usize>>, Int8Error> {
    let model = typed_model_unchecked(proto, &[], inputs, names).map_err(Int8Error::unsupported)?;
    let shape = |slot: usize| -> TractResult<Vec<usize>> {
        let fact = model.output_fact(slot)?;
        // A dimension that is not known yet leaves the shape empty.
        let known: Option<Vec<usize>> = fact.shape.iter().map(|dim| dim.to_usize().ok()).collect();
        Ok(known.unwrap_or_default())
    };
    (0..names.len()).map(shape).collect::<TractResult<_>>().map_err(Int8Error::unsupported)
}

/// A plan that runs a graph as it is, in `f32` on tract, for any of its tensors.
pub(crate) fn float_plan(
    proto: &tract_onnx::pb::ModelProto,
    inputs: &[InputSpec],
    outputs: &[String],
) -> TractResult<Plan> {
    typed_model_unchecked(proto, &[], inputs, outputs)?.into_optimized()?.into_runnable()
}

fn run_passes(model: &mut TypedModel, passes: &mut Passes) -> TractResult<()> {
    region::rewrite(passes, model)?;
    declutter_in_place(model)?;
    passes.sweep(model, "layer norm", |passes, model, node| {
        layer_norm::rewrite(model, node, passes.machine, &passes.buffers)
    })?;
    passes.sweep(model, "attention", |passes, model, node| {
        attention::rewrite(model, node, passes.machine, &passes.buffers)
    })?;
    linear::rewrite(passes, model)?;
    passes.sweep(model, "gather", gather::rewrite)?;
    dequantise_the_rest(model, passes)
}

/// tract's declutter without the pass that moves axes from operator to operator until few are left.
///
/// That pass takes three quarters of the time, and the operators here see through axes that are
/// only rearranged. What is left after them is decluttered as a whole by [`finish`].
fn declutter_in_place(model: &mut TypedModel) -> TractResult<()> {
    let mut optimizer = Optimizer::declutter();
    optimizer.passes.retain(|pass| format!("{pass:?}") != "ChangeAxes");
    optimizer.optimize(model)
}

/// Turns weights that no operator absorbed into `f32` constants.
fn dequantise_the_rest(model: &mut TypedModel, passes: &mut Passes) -> TractResult<()> {
    for node in &mut model.nodes {
        if let Some(weight) = node.op_as::<WeightNode>() {
            let weight = &passes.weights[weight.index];
            let value = weight.dequantise()?.into_arc_tensor();
            passes.report.dequantised.push(weight.name.clone());
            node.outputs[0].fact = TypedFact::try_from(value.clone())?;
            node.op = Box::new(Const::new(value)?);
        }
    }
    model.refresh_output_facts()
}

/// Optimises what is left to tract and makes the plans.
fn finish(mut model: TypedModel, passes: &mut Passes) -> TractResult<(Plan, Option<Plan>)> {
    model.prop_consts()?;
    let model = model.into_optimized()?;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for node in &model.nodes {
        if !node.op_is::<Const>() && !node.op_is::<TypedSource>() {
            *counts.entry(node.op.name().into_owned()).or_default() += 1;
        }
    }
    passes.report.on_tract =
        counts.into_iter().filter(|(name, _)| !name.starts_with("Sextant")).collect();
    let pixels = match &passes.pixels {
        Some(_) => region::with_pixels(&model)?.map(TypedModel::into_runnable).transpose()?,
        None => None,
    };
    Ok((model.into_runnable()?, pixels))
}
