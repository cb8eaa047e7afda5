//! The layer norm that tract's declutter leaves behind becomes one operator.
//!
//! tract writes `LayerNormalization`, and what exporters write instead of it, as
//! `RmsNorm(x - mean(x))`, followed by a scale and a shift.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use crate::kernel::{Machine, layer_norm};

use super::crew;
use super::fuse;
use super::parallel::{self, Buffers};
use super::weight::{constant, floats};

/// `(x - mean) / √(variance + epsilon) · scale + shift` along the innermost axis.
#[derive(Debug, Clone)]
struct LayerNormOp {
    machine: Machine,
    parameters: Arc<Parameters>,
    buffers: Buffers,
}

#[derive(Debug)]
struct Parameters {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl PartialEq for LayerNormOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parameters, &other.parameters)
    }
}

impl Eq for LayerNormOp {}

impl Hash for LayerNormOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.parameters) as usize).hash(state);
    }
}

impl Op for LayerNormOp {
    fn name(&self) -> StaticName {
        "SextantLayerNorm".into()
    }

    op_as_typed_op!();
}

impl EvalOp for LayerNormOp {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = floats(&inputs[0])?;
        let Parameters { scale, shift, epsilon } = &*self.parameters;
        let columns = scale.len();
        ensure!(x.len().is_multiple_of(columns), "not a whole number of rows");
        let out = self.buffers.fill(inputs[0].shape(), |out| {
            // A layer norm costs about as much as eight multiply-adds a number.
            let threads = parallel::threads_for(self.machine, 8 * x.len());
            let chunk = (x.len() / columns).div_ceil(threads).max(1) * columns;
            let run = |out: &mut [f32], x: &[f32]| {
                let (scale, shift) = (Some(&scale[..]), Some(&shift[..]));
                layer_norm(self.machine, x, columns, scale, shift, *epsilon, out);
            };
            if threads == 1 {
                run(out, x);
            } else {
                let tasks = out.par_chunks_mut(chunk).zip(x.par_chunks(chunk));
                crew::for_each(tasks, |(out, x)| run(out, x));
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for LayerNormOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// Replaces a layer norm whose `RmsNorm` is `node`.
pub(super) fn rewrite(
    model: &TypedModel,
    node: &TypedNode,
    machine: Machine,
    buffers: &Buffers,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(found) = recognise(model, node) else { return Ok(None) };
    let op =
        LayerNormOp { machine, parameters: Arc::new(found.parameters), buffers: buffers.clone() };
    let mut patch = TypedModelPatch::default();
    let input = patch.tap_model(model, found.input)?;
    let out = patch.wire_node(format!("{}.layer_norm", node.name), op, &[input])?;
    patch.shunt_outside(model, found.end, out[0])?;
    Ok(Some(patch))
}

struct Found {
    input: OutletId,
    parameters: Parameters,
    end: OutletId,
}

fn recognise(model: &TypedModel, node: &TypedNode) -> Option<Found> {
    let norm = node.op_as::<RmsNorm>()?;
    let centred = model.node(node.inputs[0].node);
    let input = centred_input(model, centred)?;
    let fact = model.outlet_fact(input).ok()?;
    let last = fact.rank().checked_sub(1)?;
    let columns = fact.shape[last].to_usize().ok()?;
    if norm.axis != last || fact.datum_type != f32::datum_type() || columns == 0 {
        return None;
    }
    let epsilon = norm.eps.cast_to_scalar::<f32>().ok()?;
    let mut end = OutletId::from(node.id);
    let mut scale = vec![1.0; columns];
    let mut shift = vec![0.0; columns];
    if let Some((factors, after)) = fuse::channel_constant(model, end, "Mul", columns, &[last]) {
        (scale, end) = (factors, after);
    }
    if let Some((addends, after)) = fuse::channel_constant(model, end, "Add", columns, &[last]) {
        (shift, end) = (addends, after);
    }
    let finite = scale.iter().chain(&shift).all(|v| v.is_finite()) && epsilon.is_finite();
    finite.then_some(Found { input, parameters: Parameters { scale, shift, epsilon }, end })
}

/// `x`, if `node` computes `x` minus its mean along the innermost axis.
fn centred_input(model: &TypedModel, node: &TypedNode) -> Option<OutletId> {
    if !fuse::is_binary(node, "Sub") {
        return None;
    }
    let [input, mean] = node.inputs[..] else { return None };
    let mean = model.node(mean.node);
    let rank = model.outlet_fact(input).ok()?.rank();
    let columns = model.outlet_fact(input).ok()?.shape.last()?.to_usize().ok()?;
    let is_sum = |outlet: OutletId| {
        let node = model.node(outlet.node);
        node.inputs.first() == Some(&input)
            && node.op_as::<Reduce>().is_some_and(|reduce| {
                reduce.reducer == Reducer::Sum && reduce.axes[..] == [rank - 1]
            })
    };
    if !fuse::is_binary(mean, "Mul") {
        return None;
    }
    let (sum, factor) = match mean.inputs[..] {
        [a, b] if is_sum(a) => (a, b),
        [a, b] if is_sum(b) => (b, a),
        _ => return None,
    };
    let factor = constant(model, factor).filter(|value| value.len() == 1)?;
    let factor = *floats(&factor).ok()?.first()?;
    let expected = 1.0 / columns as f32;
    (sum.slot == 0 && (factor - expected).abs() <= 1e-6 * expected).then_some(input)
}
