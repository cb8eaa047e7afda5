//! Matrix products with a stored weight become [`LinearOp`]s.

use std::cmp::Reverse;
use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use crate::kernel::{Activation, AlignedBytes, Arena, Linear, WeightMatrix};

use super::linear_op::LinearOp;
use super::weight::WeightView;
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

/// A layer that was recognised, still without its kernel.
#[derive(Debug)]
struct Found {
    /// The node of the matrix product, and which of its inputs is not the weight.
    input: InletId,
    view: WeightView,
    layout: Layout,
    /// Numbers that are summed over.
    inputs: usize,
    /// Scales are factors of those of the weight.
    layer: Layer,
    activation: Activation,
    /// Whether the input is rounded to 16 bits.
    wide: bool,
    /// Where what is added to the result enters the graph.
    residual: Option<InletId>,
}

/// Replaces matrix products with stored weights, and what can be computed with them.
///
/// Weights are packed on all threads of the present pool, if there is one.
pub(super) fn rewrite(passes: &mut Passes, model: &mut TypedModel) -> TractResult<()> {
    let mut found: Vec<Found> = Vec::new();
    for id in model.eval_order()? {
        if let Some(layer) = recognise(passes, model, model.node(id), &found)? {
            found.push(layer);
        }
    }
    let kernels = kernels(passes, &found);
    let mut count = 0;
    for (found, kernel) in found.iter().zip(kernels) {
        match kernel {
            Ok(linear) => {
                replace(passes, model, found, Arc::new(linear))?.apply(model)?;
                count += 1;
            }
            Err(reason) => {
                let name = &passes.weights[found.view.index].name;
                passes.report.notes.push(format!("{name}: {reason}"));
            }
        }
    }
    if count > 0 {
        model.compact()?;
        passes.report.replaced.push(("linear", count));
    }
    Ok(())
}

/// Recognises the layer whose matrix product is `node`, if it is one with a stored weight.
fn recognise(
    passes: &mut Passes,
    model: &TypedModel,
    node: &TypedNode,
    found: &[Found],
) -> TractResult<Option<Found>> {
    let Some(op) = node.op_as::<EinSum>().filter(|op| op.q_params.is_none()) else {
        return Ok(None);
    };
    if node.inputs.len() != 2 {
        return Ok(None);
    }
    for slot in [1, 0] {
        let Some(view) = WeightView::trace(model, node.inputs[slot]) else { continue };
        let Some(layout) = layout(op, model, node, slot)? else {
            let name = &passes.weights[view.index].name;
            passes.report.notes.push(format!("{name}: {} is not a plain product", op.axes));
            continue;
        };
        let weight_shape = &model.outlet_fact(node.inputs[slot])?.shape;
        let lengths = |axes: &[usize]| -> TractResult<usize> {
            Ok(axes.iter().map(|axis| weight_shape[*axis].to_usize()).product::<Result<_, _>>()?)
        };
        let outputs = lengths(&layout.weight_outputs)?;
        let inputs = lengths(&layout.weight_inputs)?;
        let mut layer =
            Layer { scales: vec![1.0; outputs], bias: vec![0.0; outputs], end: node.id.into() };
        fold_constants(model, &mut layer, &layout.channel_axes);
        let mut activation = Activation::None;
        if let Some((function, end)) = fuse::activation(model, layer.end) {
            (activation, layer.end) = (function, end);
        }
        // An addition of two layers belongs to the first.
        let after = fuse::same_memory_after(model, layer.end);
        let residual = residual(model, after).filter(|(_, end)| {
            !layout.channels_first && found.iter().all(|other| other.layer.end != *end)
        });
        let residual = residual.and_then(|(other, end)| {
            layer.end = end;
            let slot = model.node(end.node).inputs.iter().position(|input| *input == other)?;
            Some(InletId::new(end.node, slot))
        });
        let input = InletId::new(node.id, 1 - slot);
        // What is rounded off is multiplied and added before an activation could be.
        let wide = activation == Activation::None
            && passes.wide.contains(&passes.weights[view.index].name);
        let found = Found { input, view, layout, inputs, layer, activation, wide, residual };
        return Ok(Some(found));
    }
    Ok(None)
}

/// Packs the weights of all layers, into one piece of memory.
///
/// The largest come first: threads finish at about the same time, and what is still held of the
/// file when memory is nearly full is small.
fn kernels(passes: &Passes, found: &[Found]) -> Vec<Result<Linear, String>> {
    let length = |found: &Found| {
        Linear::packed_length(passes.machine, found.layer.scales.len(), found.inputs)
    };
    let mut arena = Arena::new(found.iter().map(|f| Arena::room_for(length(f))).sum());
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|at| Reverse(length(&found[*at])));
    let memory: Vec<AlignedBytes> =
        order.iter().map(|at| arena.take(length(&found[*at]))).collect();
    let tasks = order.into_iter().zip(memory);
    let pack = |(at, memory): (usize, AlignedBytes)| (at, kernel(passes, &found[at], memory));
    let mut kernels: Vec<_> = match rayon::current_thread_index() {
        // A bridge hands tasks out in their order.
        Some(_) => tasks.par_bridge().map(pack).collect(),
        None => tasks.map(pack).collect(),
    };
    kernels.sort_unstable_by_key(|(at, _)| *at);
    kernels.into_iter().map(|(_, kernel)| kernel).collect()
}

/// Packs the weights of a layer, or says why they cannot be used.
fn kernel(passes: &Passes, found: &Found, memory: AlignedBytes) -> Result<Linear, String> {
    let Found { view, layout, layer, .. } = found;
    let stored = &passes.weights[view.index];
    let bias = Some(&layer.bias[..]);
    let scaled = |scales: Vec<f32>| -> Vec<f32> {
        scales.iter().zip(&layer.scales).map(|(s, f)| s * f).collect()
    };
    let (outputs, inputs) = (&layout.weight_outputs[..], &layout.weight_inputs[..]);
    let pack = |matrix: &WeightMatrix, scales| {
        Linear::pack(passes.machine, matrix, &scaled(scales), bias, memory)
    };
    let linear = if let Some((matrix, scales)) = view.matrix(stored, outputs, inputs) {
        pack(&matrix, scales)
    } else {
        let rows = view.rows(stored, outputs, inputs).ok_or("scales vary along the sum")?;
        WeightMatrix::dense(&rows.weights, rows.scales.len(), found.inputs)
            .and_then(|matrix| pack(&matrix, rows.scales))
    };
    passes.packed(view.index);
    linear.map_err(|e| e.to_string())
}

/// The patch that puts a layer's operator in.
fn replace(
    passes: &Passes,
    model: &TypedModel,
    found: &Found,
    linear: Arc<Linear>,
) -> TractResult<TypedModelPatch> {
    let op = LinearOp {
        linear,
        activation: found.activation,
        wide: found.wide,
        has_residual: found.residual.is_some(),
        inputs_first: found.layout.inputs_first,
        channels_first: found.layout.channels_first,
        shape: model.outlet_fact(found.layer.end)?.shape.to_tvec(),
        buffers: passes.buffers.clone(),
    };
    let mut patch = TypedModelPatch::default();
    // Read only now: layers before may have been replaced meanwhile.
    let taps = std::iter::once(found.input)
        .chain(found.residual)
        .map(|inlet| fuse::same_memory_before(model, model.node(inlet.node).inputs[inlet.slot]))
        .map(|outlet| patch.tap_model(model, outlet))
        .collect::<TractResult<TVec<_>>>()?;
    let name = format!("{}.int8", model.node(found.input.node).name);
    let out = patch.wire_node(name, op, &taps)?;
    patch.shunt_outside(model, found.layer.end, out[0])?;
    Ok(patch)
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
