//! Matrix products with a stored weight become [`LinearOp`]s.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use crate::kernel::{Activation, Linear};

use super::linear_op::LinearOp;
use super::weight::{Rows, WeightView};
use super::{Passes, fuse};

/// Which axes of a matrix product are what. Axes of length one are left out.
#[derive(Debug)]
struct Layout {
    /// Axes of the weight that are output channels, in the order of the output.
    weight_outputs: Vec<usize>,
    /// Axes of the weight that are summed over, in the order of the input.
    weight_inputs: Vec<usize>,
    /// Axes of the output that are output channels.
    channel_axes: Vec<usize>,
    /// Whether the axes summed over are the outermost of the input, rather than the innermost.
    inputs_first: bool,
    /// Whether the output channels are the outermost axes of the output.
    channels_first: bool,
}

/// A layer under construction: everything linear that was recognised so far.
#[derive(Debug)]
pub(super) struct Layer {
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// The last outlet that the layer computes.
    pub end: OutletId,
}

/// Replaces a matrix product with a stored weight, and what can be computed with it.
pub(super) fn rewrite(
    passes: &mut Passes,
    model: &TypedModel,
    node: &TypedNode,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(op) = node.op_as::<EinSum>().filter(|op| op.q_params.is_none()) else {
        return Ok(None);
    };
    if node.inputs.len() != 2 {
        return Ok(None);
    }
    for slot in [1, 0] {
        let Some(view) = WeightView::trace(model, node.inputs[slot]) else { continue };
        let name = &passes.weights[view.index].name;
        let Some(layout) = layout(op, model, node, slot)? else {
            passes.report.notes.push(format!("{name}: {} is not a plain product", op.axes));
            continue;
        };
        let stored = &passes.weights[view.index];
        let Some(rows) = view.rows(stored, &layout.weight_outputs, &layout.weight_inputs) else {
            passes.report.notes.push(format!("{name}: scales vary along the sum"));
            continue;
        };
        return layer(passes, model, node, node.inputs[1 - slot], (&layout, rows));
    }
    Ok(None)
}

fn layout(
    op: &EinSum,
    model: &TypedModel,
    node: &TypedNode,
    weight_slot: usize,
) -> TractResult<Option<Layout>> {
    let shape = |outlet: OutletId| model.outlet_fact(outlet).map(|fact| &fact.shape);
    let weight_shape = shape(node.inputs[weight_slot])?;
    let input_shape = shape(node.inputs[1 - weight_slot])?;
    let output_shape = shape(node.id.into())?;
    // (input axis, weight axis, output axis) of each axis that is not of length one everywhere.
    let mut summed = Vec::new();
    let mut channels = Vec::new();
    let mut kept = Vec::new();
    for axis in op.axes.iter_all_axes() {
        let position = |of: &TVec<usize>, shape: &ShapeFact| -> TractResult<Option<usize>> {
            ensure!(of.len() <= 1, "an axis occurs twice");
            Ok(of.first().copied().filter(|axis| !shape[*axis].is_one()))
        };
        let input = position(&axis.inputs[1 - weight_slot], input_shape)?;
        let weight = position(&axis.inputs[weight_slot], weight_shape)?;
        let output = position(&axis.outputs[0], output_shape)?;
        match (input, weight, output) {
            (Some(input), Some(weight), None) => summed.push((input, weight)),
            (None, Some(weight), Some(output)) => channels.push((output, weight)),
            (Some(input), None, Some(output)) => kept.push((input, output)),
            (None, None, None) => {}
            _ => return Ok(None),
        }
    }
    summed.sort_unstable();
    channels.sort_unstable();
    kept.sort_unstable();
    let in_order = kept.windows(2).all(|pair| pair[0].1 < pair[1].1);
    let inputs_last = kept.iter().all(|k| summed.iter().all(|s| k.0 < s.0));
    let inputs_first = kept.iter().all(|k| summed.iter().all(|s| k.0 > s.0));
    let channels_last = kept.iter().all(|k| channels.iter().all(|c| k.1 < c.0));
    let channels_first = kept.iter().all(|k| channels.iter().all(|c| k.1 > c.0));
    let plain = in_order && (inputs_last || inputs_first) && (channels_last || channels_first);
    if !plain || summed.is_empty() || channels.is_empty() {
        return Ok(None);
    }
    Ok(Some(Layout {
        weight_outputs: channels.iter().map(|c| c.1).collect(),
        weight_inputs: summed.iter().map(|s| s.1).collect(),
        channel_axes: channels.iter().map(|c| c.0).collect(),
        inputs_first: !inputs_last,
        channels_first: !channels_last,
    }))
}

/// Collects what follows the product and puts the operator in.
fn layer(
    passes: &mut Passes,
    model: &TypedModel,
    node: &TypedNode,
    input: OutletId,
    (layout, Rows { weights, scales }): (&Layout, Rows),
) -> TractResult<Option<TypedModelPatch>> {
    let outputs = scales.len();
    let inputs = weights.len() / outputs;
    let mut layer = Layer { scales, bias: vec![0.0; outputs], end: node.id.into() };
    fold_constants(model, &mut layer, &layout.channel_axes);
    let (activation, end) =
        fuse::activation(model, layer.end).unwrap_or((Activation::None, layer.end));
    let (residual, end) = residual(model, end)
        .filter(|_| !layout.channels_first)
        .map_or((None, end), |(residual, end)| (Some(residual), end));
    let linear =
        Linear::new(passes.machine, &weights, outputs, inputs, &layer.scales, Some(&layer.bias));
    let linear = match linear {
        Ok(linear) => Arc::new(linear),
        Err(error) => {
            passes.report.notes.push(format!("{}: {error}", node.name));
            return Ok(None);
        }
    };
    let op = LinearOp {
        linear,
        activation,
        has_residual: residual.is_some(),
        inputs_first: layout.inputs_first,
        channels_first: layout.channels_first,
        shape: model.outlet_fact(end)?.shape.to_tvec(),
        buffers: passes.buffers.clone(),
    };
    let mut patch = TypedModelPatch::default();
    let taps = std::iter::once(input)
        .chain(residual)
        .map(|outlet| patch.tap_model(model, outlet))
        .collect::<TractResult<TVec<_>>>()?;
    let name = format!("{}.int8", node.name);
    let out = patch.wire_node(name, op, &taps)?;
    patch.shunt_outside(model, end, out[0])?;
    Ok(Some(patch))
}

/// Folds multiplications by and additions of constants per channel into scales and bias.
pub(super) fn fold_constants(model: &TypedModel, layer: &mut Layer, channel_axes: &[usize]) {
    let channels = layer.scales.len();
    loop {
        if let Some((factors, end)) =
            fuse::channel_constant(model, layer.end, "Mul", channels, channel_axes)
        {
            layer.scales.iter_mut().zip(&factors).for_each(|(s, f)| *s *= f);
            layer.bias.iter_mut().zip(&factors).for_each(|(b, f)| *b *= f);
            layer.end = end;
        } else if let Some((addends, end)) =
            fuse::channel_constant(model, layer.end, "Add", channels, channel_axes)
        {
            layer.bias.iter_mut().zip(&addends).for_each(|(b, a)| *b += a);
            layer.end = end;
        } else {
            return;
        }
    }
}

/// What is added to `outlet`, if it is only read by an addition of two tensors of one shape.
pub(super) fn residual(model: &TypedModel, outlet: OutletId) -> Option<(OutletId, OutletId)> {
    let node = fuse::sole_reader(model, outlet).filter(|node| fuse::is_binary(node, "Add"))?;
    let other = fuse::other_input(node, outlet)?;
    let shape = |outlet: OutletId| model.outlet_fact(outlet).ok().map(|f| (&f.shape, f.datum_type));
    let same = shape(other)? == shape(outlet)? && shape(outlet)? == shape(node.id.into())?;
    same.then_some((other, node.id.into()))
}
