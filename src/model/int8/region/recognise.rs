//! Finding layers in tract's typed graph.

use std::collections::HashSet;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::conv::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};

use crate::kernel::{Activation, MOST_PIXELS_POOLED, Window};

use super::super::weight::{WeightNode, constant, floats};
use super::super::{Passes, fuse, linear};
use super::draft::{After, ConvolutionDraft, ConvolutionKind, Draft, DraftKind, Size};

/// The axis of the channels.
const CHANNELS: usize = 1;

/// Finds all layers, in the order of evaluation. A node belongs to one layer at most.
pub(super) fn drafts(passes: &mut Passes, model: &TypedModel) -> TractResult<Vec<Draft>> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut taken: HashSet<usize> = HashSet::new();
    for id in model.eval_order()? {
        if taken.contains(&id) {
            continue;
        }
        let node = model.node(id);
        let made_here = |outlet: &OutletId| drafts.iter().any(|d| d.end == *outlet);
        let found = if node.op_is::<Conv>() {
            convolution(passes, model, node, &taken)?
        } else if node.op_is::<Reduce>() {
            global_average(model, node).filter(|draft| made_here(&draft.inputs[0]))
        } else {
            // Sums and products belong to a region only between layers of one.
            binary(model, node).filter(|draft| draft.inputs.iter().all(made_here))
        };
        if let Some(draft) = found {
            taken.extend(draft.nodes.iter().copied());
            drafts.push(draft);
        }
    }
    Ok(drafts)
}

/// Pictures of more elements are left to tract; that of smaller ones, numbers of bytes and of
/// multiply-adds can be computed without overflow.
const MOST_ELEMENTS: usize = 1 << 31;

/// The size of a picture, if its shape is `[batch, channels, height, width]` and known.
pub(super) fn size_of(model: &TypedModel, outlet: OutletId) -> Option<Size> {
    let fact = model.outlet_fact(outlet).ok()?;
    if fact.rank() != 4 || fact.datum_type != f32::datum_type() {
        return None;
    }
    let length = |axis: usize| fact.shape[axis].to_usize().ok().filter(|length| *length > 0);
    let size = Size { channels: length(CHANNELS)?, height: length(2)?, width: length(3)? };
    let elements = size.height.checked_mul(size.width)?.checked_mul(size.channels)?;
    (elements <= MOST_ELEMENTS).then_some(size)
}

fn convolution(
    passes: &mut Passes,
    model: &TypedModel,
    node: &TypedNode,
    taken: &HashSet<usize>,
) -> TractResult<Option<Draft>> {
    let Some(op) = node.op_as::<Conv>() else { return Ok(None) };
    let weight_node = model.node(node.inputs[1].node);
    let Some(weight) = weight_node.op_as::<WeightNode>() else { return Ok(None) };
    let Some((window, kind)) = geometry(model, node, op) else {
        passes.report.notes.push(format!("{}: this kind of convolution stays in f32", node.name));
        return Ok(None);
    };
    let channels = op.pool_spec.output_channels;
    let Some(bias) = constant(model, node.inputs[2]) else { return Ok(None) };
    let Some(bias) = fuse::per_channel(&bias, channels, &[0]) else { return Ok(None) };
    let mut layer = linear::Layer { scales: vec![1.0; channels], bias, end: node.id.into() };
    linear::fold_constants(model, &mut layer, &[CHANNELS]);
    // What is added must be a picture of the same size, and not yet part of another layer.
    let residual = linear::residual(model, layer.end)
        .filter(|(other, end)| size_of(model, *other).is_some() && !taken.contains(&end.node));
    let mut inputs = vec![node.inputs[0]];
    if let Some((other, end)) = residual {
        inputs.push(other);
        layer.end = end;
    }
    let (after, last) = after(model, layer.end);
    let Some(size) = size_of(model, last) else { return Ok(None) };
    let fits = size_of(model, node.inputs[0])
        .is_some_and(|input| window.output(input.height, input.width) == (size.height, size.width));
    if !fits {
        return Ok(None);
    }
    Ok(Some(Draft {
        kind: DraftKind::Convolution(ConvolutionDraft {
            weight: weight.index,
            factors: layer.scales,
            bias: layer.bias,
            window,
            kind,
        }),
        inputs,
        after,
        has_residual: residual.is_some(),
        end: last,
        nodes: nodes_between(model, node.id, last),
        size,
    }))
}

/// The window of a convolution that the kernels know.
fn geometry(model: &TypedModel, node: &TypedNode, op: &Conv) -> Option<(Window, ConvolutionKind)> {
    let spec = &op.pool_spec;
    let input = size_of(model, node.inputs[0])?;
    let plain = op.q_params.is_none()
        && op.kernel_fmt == KernelFormat::OIHW
        && spec.data_format == DataFormat::NCHW
        && spec.rank() == 2
        && (0..2).all(|axis| spec.dilation(axis) == 1);
    if !plain {
        return None;
    }
    let (inputs, outputs) = (spec.input_channels, spec.output_channels);
    let kind = if op.group == 1 {
        ConvolutionKind::Full
    } else if op.group == inputs && outputs.is_multiple_of(inputs) {
        ConvolutionKind::Depthwise { multiplier: outputs / inputs }
    } else {
        return None;
    };
    let padding = spec.computed_padding(&[input.height, input.width]);
    let kernel = [spec.kernel_shape[0], spec.kernel_shape[1]];
    let before = [padding[0].pad_before, padding[1].pad_before];
    let after = [padding[0].pad_after, padding[1].pad_after];
    let stride = [spec.stride(0), spec.stride(1)];
    let fits = (0..2).all(|i| {
        kernel[i] <= 64 && stride[i] <= 64 && before[i] < kernel[i] && after[i] < kernel[i]
    });
    fits.then_some((Window { kernel, stride, before, after }, kind))
}

/// The activation function or clamp that follows `outlet`.
fn after(model: &TypedModel, outlet: OutletId) -> (After, OutletId) {
    if let Some((function, end)) = fuse::activation(model, outlet) {
        return (After::Function(function), end);
    }
    if let Some((low, high, end)) = clamp(model, outlet) {
        return (After::Clamp(low, high), end);
    }
    (After::Function(Activation::None), outlet)
}

/// A maximum and a minimum with constants, in any order.
fn clamp(model: &TypedModel, outlet: OutletId) -> Option<(f32, f32, OutletId)> {
    let (mut low, mut high, mut end) = (f32::NEG_INFINITY, f32::INFINITY, outlet);
    for _ in 0..2 {
        let Some(node) = fuse::sole_reader(model, end) else { break };
        let Some(other) = fuse::other_input(node, end) else { break };
        let Some(bound) = constant(model, other).filter(|bound| bound.len() == 1) else { break };
        let bound = *floats(&bound).ok()?.first()?;
        if fuse::is_binary(node, "Max") {
            low = low.max(bound);
        } else if fuse::is_binary(node, "Min") {
            high = high.min(bound);
        } else {
            break;
        }
        end = node.id.into();
    }
    (end != outlet && low < high).then_some((low, high, end))
}

/// All nodes on the way from `start` to the node of `end`, both included.
fn nodes_between(model: &TypedModel, start: usize, end: OutletId) -> Vec<usize> {
    let mut nodes = vec![end.node];
    let mut at = 0;
    while at < nodes.len() {
        if nodes[at] != start {
            for input in &model.node(nodes[at]).inputs {
                let leads_back = input.node == start || reaches(model, input.node, start);
                if leads_back && !nodes.contains(&input.node) {
                    nodes.push(input.node);
                }
            }
        }
        at += 1;
    }
    nodes
}

/// Whether `from` is reached going back from `node` within the few nodes a layer has.
fn reaches(model: &TypedModel, node: usize, from: usize) -> bool {
    const DEPTH: usize = 14;
    let mut level = vec![node];
    for _ in 0..DEPTH {
        if level.contains(&from) {
            return true;
        }
        level = level.iter().flat_map(|id| model.node(*id).inputs.iter().map(|i| i.node)).collect();
        level.sort_unstable();
        level.dedup();
        if level.len() > 64 {
            return false;
        }
    }
    false
}

/// The mean over height and width, as tract writes `GlobalAveragePool` and `ReduceMean`.
fn global_average(model: &TypedModel, node: &TypedNode) -> Option<Draft> {
    let reduce = node.op_as::<Reduce>()?;
    let size = size_of(model, node.inputs[0])?;
    let summable = size.pixels() <= MOST_PIXELS_POOLED;
    if reduce.reducer != Reducer::Sum || reduce.axes[..] != [2, 3] || !summable {
        return None;
    }
    let sum = OutletId::from(node.id);
    let scaled = fuse::sole_reader(model, sum)?;
    let factor = constant(model, fuse::other_input(scaled, sum)?).filter(|v| v.len() == 1)?;
    let factor = f64::from(*floats(&factor).ok()?.first()?);
    let pixels = size.pixels() as f64;
    let first = scaled.inputs.first() == Some(&sum);
    let is_mean = (fuse::is_binary(scaled, "Div") && first && (factor - pixels).abs() < 1e-3)
        || (fuse::is_binary(scaled, "Mul") && (factor * pixels - 1.0).abs() < 1e-5);
    is_mean.then(|| Draft {
        kind: DraftKind::GlobalAverage,
        inputs: vec![node.inputs[0]],
        after: After::Function(Activation::None),
        has_residual: false,
        end: scaled.id.into(),
        nodes: vec![node.id, scaled.id],
        size: Size { height: 1, width: 1, channels: size.channels },
    })
}

/// A sum of two pictures of one size, or a picture times one number per channel.
fn binary(model: &TypedModel, node: &TypedNode) -> Option<Draft> {
    let [a, b] = node.inputs[..] else { return None };
    let (size_a, size_b) = (size_of(model, a)?, size_of(model, b)?);
    let size = size_of(model, node.id.into())?;
    let one_per_channel = |s: Size| s == Size { height: 1, width: 1, channels: size.channels };
    let (kind, inputs) = if fuse::is_binary(node, "Add") && size_a == size && size_b == size {
        (DraftKind::Add, vec![a, b])
    } else if fuse::is_binary(node, "Mul") && size_a == size && one_per_channel(size_b) {
        (DraftKind::Scale, vec![a, b])
    } else if fuse::is_binary(node, "Mul") && size_b == size && one_per_channel(size_a) {
        (DraftKind::Scale, vec![b, a])
    } else {
        return None;
    };
    let (after, end) = match fuse::activation(model, node.id.into()) {
        Some((function, end)) => (After::Function(function), end),
        None => (After::Function(Activation::None), node.id.into()),
    };
    let nodes = nodes_between(model, node.id, end);
    Some(Draft { kind, inputs, after, has_residual: false, end, nodes, size })
}
