//! Recognising what follows an operator and can be computed with it: scales, biases, activation
//! functions, additions.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;

use crate::kernel::Activation;

use super::weight::constant;

/// The only node that reads `outlet`, if there is just one and the outlet is not an output.
pub(super) fn sole_reader(model: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    let successors = &model.outlet_successors(outlet);
    match successors {
        [inlet] if !model.outputs.contains(&outlet) => Some(model.node(inlet.node)),
        _ => None,
    }
}

/// Whether a node is the binary operator of this name.
pub(super) fn is_binary(node: &TypedNode, name: &str) -> bool {
    node.op_as::<TypedBinOp>().is_some_and(|op| op.0.name() == name)
}

/// The input of a binary node that is not `outlet`; `None` if both are or neither is.
pub(super) fn other_input(node: &TypedNode, outlet: OutletId) -> Option<OutletId> {
    match node.inputs[..] {
        [a, b] if a == outlet && b != outlet => Some(b),
        [a, b] if b == outlet && a != outlet => Some(a),
        _ => None,
    }
}

/// If `outlet` is only read by an addition (or another binary operator `name`) of a constant that
/// varies along the innermost `channels` elements only, the constant, one number per channel, and
/// the outlet after it.
pub(super) fn channel_constant(
    model: &TypedModel,
    outlet: OutletId,
    name: &str,
    channels: usize,
    channel_axes: &[usize],
) -> Option<(Vec<f32>, OutletId)> {
    let node = sole_reader(model, outlet).filter(|node| is_binary(node, name))?;
    let other = other_input(node, outlet)?;
    let value = constant(model, other)?;
    if model.outlet_fact(outlet).ok()?.shape != node.outputs[0].fact.shape {
        return None;
    }
    Some((per_channel(&value, channels, channel_axes)?, node.id.into()))
}

/// Spreads a constant that broadcasts along all but the channel axes over `channels` numbers.
pub(super) fn per_channel(
    value: &Tensor,
    channels: usize,
    channel_axes: &[usize],
) -> Option<Vec<f32>> {
    let value = value.cast_to::<f32>().ok()?;
    let numbers = super::weight::floats(&value).ok()?;
    let varies_elsewhere = (value.shape().iter().enumerate())
        .any(|(axis, length)| *length != 1 && !channel_axes.contains(&axis));
    match numbers {
        [one] => Some(vec![*one; channels]),
        many if many.len() == channels && !varies_elsewhere => Some(many.to_vec()),
        _ => None,
    }
}

/// The furthest outlet before `outlet` whose elements lie in memory as those of `outlet` do: what
/// comes between gives axes other names.
pub(super) fn same_memory_before(model: &TypedModel, mut outlet: OutletId) -> OutletId {
    while keeps_memory(model, model.node(outlet.node)) {
        outlet = model.node(outlet.node).inputs[0];
    }
    outlet
}

/// The furthest outlet after `outlet` that only gives axes other names, if nobody else reads what
/// comes between.
pub(super) fn same_memory_after(model: &TypedModel, mut outlet: OutletId) -> OutletId {
    while let Some(node) = sole_reader(model, outlet).filter(|node| keeps_memory(model, node)) {
        outlet = node.id.into();
    }
    outlet
}

/// Whether a node leaves every element where it is, as a reshape does and so does moving an axis of
/// length one.
fn keeps_memory(model: &TypedModel, node: &TypedNode) -> bool {
    match node.op_as::<AxisOp>() {
        Some(AxisOp::Move(from, to)) => {
            let Ok(fact) = model.outlet_fact(node.inputs[0]) else { return false };
            let passed = if from < to { from + 1..to + 1 } else { *to..*from };
            fact.shape[*from].is_one() || passed.into_iter().all(|axis| fact.shape[axis].is_one())
        }
        Some(AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..)) => true,
        None => false,
    }
}

/// Nodes an activation function may be made of.
const MOST_NODES: usize = 12;

/// If what follows `outlet` is an activation function, in whatever form the exporter wrote it, the
/// function and the outlet after it.
///
/// It is recognised by its values: the elementwise nodes with scalar constants that hang off
/// `outlet` are evaluated on sample points and compared with the functions known. The longest
/// match wins.
pub(super) fn activation(model: &TypedModel, outlet: OutletId) -> Option<(Activation, OutletId)> {
    if model.outputs.contains(&outlet) {
        return None;
    }
    let rank = model.outlet_fact(outlet).ok()?.rank();
    let samples = sample_points();
    let mut shape = vec![1; rank.max(1)];
    shape[rank.max(1) - 1] = samples.len();
    let input = Tensor::from_shape(&shape, &samples).ok()?.into_arc_tensor();
    let mut values = HashMap::from([(outlet, input)]);
    let mut found = None;
    for _ in 0..MOST_NODES {
        let Some((next, value)) = next_elementwise(model, &values) else { break };
        values.insert(next, value.clone());
        if is_exit(model, &values, next)
            && let Some(activation) = known_function(&samples, &value)
        {
            found = Some((activation, next));
        }
    }
    found
}

/// Points on which functions are told apart: densely where they bend, and far out.
fn sample_points() -> Vec<f32> {
    let near = (-96..=96).map(|i| i as f32 / 12.0);
    near.chain([-1000.0, -60.0, -20.0, 20.0, 60.0, 1000.0]).collect()
}

/// The next node whose inputs are all known or scalar constants, evaluated.
fn next_elementwise(
    model: &TypedModel,
    values: &HashMap<OutletId, Arc<Tensor>>,
) -> Option<(OutletId, Arc<Tensor>)> {
    let mut readers: Vec<usize> = values
        .keys()
        .filter(|outlet| !model.outputs.contains(outlet))
        .flat_map(|outlet| model.outlet_successors(*outlet).iter().map(|inlet| inlet.node))
        .filter(|id| !values.contains_key(&OutletId::from(*id)))
        .collect();
    readers.sort_unstable();
    readers.dedup();
    readers.into_iter().find_map(|id| {
        let node = model.node(id);
        if !(node.op_is::<ElementWiseOp>() || node.op_is::<TypedBinOp>()) {
            return None;
        }
        let inputs: TVec<TValue> = (node.inputs.iter())
            .map(|input| match values.get(input) {
                Some(value) => Some(value.clone().into_tvalue()),
                None => {
                    let value = constant(model, *input).filter(|value| value.len() == 1)?;
                    Some(value.into_tvalue())
                }
            })
            .collect::<Option<_>>()?;
        let outputs = node.op.eval_out_of_plan(inputs).ok()??;
        let value = outputs.into_iter().next()?.into_arc_tensor();
        let same_type = value.datum_type() == f32::datum_type();
        same_type.then_some((OutletId::from(id), value))
    })
}

/// Whether everything but `exit` is read inside the set only.
fn is_exit(model: &TypedModel, values: &HashMap<OutletId, Arc<Tensor>>, exit: OutletId) -> bool {
    values.keys().filter(|outlet| **outlet != exit).all(|outlet| {
        !model.outputs.contains(outlet)
            && model
                .outlet_successors(*outlet)
                .iter()
                .all(|inlet| values.contains_key(&OutletId::from(inlet.node)))
    })
}

/// How far values may be from a function known, relative to `1 + |x|`: tract's own functions are
/// approximations. The closest two functions, both GELUs, are 4e-4 apart.
const TOLERANCE: f64 = 2e-5;

fn known_function(samples: &[f32], value: &Tensor) -> Option<Activation> {
    let values = super::weight::floats(value).ok()?;
    if values.len() != samples.len() {
        return None;
    }
    Activation::ALL.into_iter().filter(|a| *a != Activation::None).find(|activation| {
        samples.iter().zip(values).all(|(x, y)| {
            let expected = evaluate(*activation, f64::from(*x));
            (expected - f64::from(*y)).abs() <= TOLERANCE * (1.0 + f64::from(x.abs()))
        })
    })
}

/// An activation function in 64-bit arithmetic.
fn evaluate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::GeluErf => x * (1.0 + error_function(x / std::f64::consts::SQRT_2)) / 2.0,
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            x * (1.0 + inner.tanh()) / 2.0
        }
    }
}

/// The error function, by its series near zero and its continued fraction beyond.
fn error_function(x: f64) -> f64 {
    let magnitude = x.abs();
    let square = x * x;
    if magnitude < 2.5 {
        let mut term = x;
        let mut sum = x;
        for n in 1..60 {
            term *= -square / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..60).rev().fold(magnitude, |f, k| magnitude + f64::from(k) / 2.0 / f);
    let tail = (-square).exp() / (fraction * std::f64::consts::PI.sqrt());
    (1.0 - tail).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moves_no_element_is_seen_through() {
        let mut model = TypedModel::default();
        let source = model.add_source("x", f32::fact([1, 5, 1, 6])).unwrap();
        let reshape = AxisOp::Reshape(0, tvec![5.to_dim(), 6.to_dim()], tvec![30.to_dim()]);
        let mut at = source;
        // To 5 1 1 6, 1 5 1 6, 5 1 6, 5 6, 30, 1 30.
        let steps = [(0, 2), (2, 0)].map(|(from, to)| AxisOp::Move(from, to));
        let steps =
            steps.into_iter().chain([AxisOp::Rm(0), AxisOp::Rm(1), reshape, AxisOp::Add(0)]);
        for (i, step) in steps.enumerate() {
            at = model.wire_node(format!("step {i}"), step, &[at]).unwrap()[0];
        }
        let wide = AxisOp::Reshape(1, tvec![30.to_dim()], tvec![5.to_dim(), 6.to_dim()]);
        let wide = model.wire_node("wide", wide, &[at]).unwrap()[0];
        let turned = model.wire_node("turned", AxisOp::Move(1, 2), &[wide]).unwrap()[0];
        let turned_far = model.wire_node("far", AxisOp::Move(2, 0), &[turned]).unwrap()[0];
        model.select_output_outlets(&[turned_far]).unwrap();
        assert_eq!(same_memory_after(&model, source), wide);
        assert_eq!(same_memory_before(&model, wide), source);
        assert_eq!(same_memory_before(&model, turned), turned);
        assert_eq!(same_memory_before(&model, turned_far), turned_far);
        // What others read too must still be made.
        model.select_output_outlets(&[turned_far, at]).unwrap();
        assert_eq!(same_memory_after(&model, source), at);
    }

    #[test]
    fn error_function_has_its_known_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9)] {
            assert!((error_function(x) - y).abs() < 1e-10);
            assert!((error_function(-x) + y).abs() < 1e-10);
        }
        assert!((error_function(2.0) - 0.995_322_265_0).abs() < 1e-10);
        assert!((error_function(3.0) - 0.999_977_909_5).abs() < 1e-10);
        assert!((error_function(2.499_999) - error_function(2.500_001)).abs() < 1e-6);
    }

    #[test]
    fn no_two_functions_agree_on_the_samples() {
        let samples = sample_points();
        for activation in Activation::ALL.into_iter().filter(|a| *a != Activation::None) {
            let values: Vec<f32> =
                samples.iter().map(|x| evaluate(activation, f64::from(*x)) as f32).collect();
            let value = tract_onnx::prelude::tensor1(&values);
            assert_eq!(known_function(&samples, &value), Some(activation));
        }
    }
}
