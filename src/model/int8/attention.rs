//! `softmax(q · kᵀ · scale + mask) · v` becomes one operator.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use crate::kernel::Machine;

use super::attention_mask::mask_kind;
use super::attention_op::{AttentionOp, MaskKind, Operand};
use super::fuse;
use super::parallel::Buffers;
use super::view::{Axis, StridedView, dense_axes};
use super::weight::{constant, floats};

/// What the axes of a matrix product of two tensors mean: positions in each, for axes longer
/// than one.
#[derive(Debug, Default)]
struct Roles {
    /// In both inputs and the output: `(left, right, out)`.
    batch: Vec<(usize, usize, usize)>,
    /// Summed over: `(left, right)`.
    summed: Vec<(usize, usize)>,
    /// In the left input and the output.
    left: Vec<(usize, usize)>,
    /// In the right input and the output.
    right: Vec<(usize, usize)>,
}

impl Roles {
    /// Gives the axes of the output the positions that they have after it was rearranged.
    fn move_outputs(&mut self, positions: &[usize]) {
        let outputs = (self.batch.iter_mut().map(|(_, _, out)| out))
            .chain(self.left.iter_mut().map(|(_, out)| out))
            .chain(self.right.iter_mut().map(|(_, out)| out));
        outputs.for_each(|out| *out = positions[*out]);
    }
}

/// Replaces the attention that ends in the matrix product `node`.
pub(super) fn rewrite(
    model: &TypedModel,
    node: &TypedNode,
    machine: Machine,
    buffers: &Buffers,
) -> TractResult<Option<TypedModelPatch>> {
    for weights_slot in [0, 1] {
        let Some(softmax) = softmax_before(model, node, weights_slot) else { continue };
        let Some(scores) = Scores::trace(model, softmax) else { continue };
        // With what is moved after it if possible, else without.
        let outputs = [Output::moved(model, node), Output::plain(node)];
        let mut found = None;
        for output in outputs {
            let products = Products { node, weights_slot, softmax, scores: &scores };
            if let Some((op, inputs)) = operator(model, &products, &output, (machine, buffers))? {
                found = Some((op, inputs, output.end));
                break;
            }
        }
        let Some((op, inputs, end)) = found else { continue };
        let mut patch = TypedModelPatch::default();
        let taps = inputs
            .iter()
            .map(|outlet| patch.tap_model(model, *outlet))
            .collect::<TractResult<TVec<_>>>()?;
        let out = patch.wire_node(format!("{}.attention", node.name), op, &taps)?;
        patch.shunt_outside(model, end, out[0])?;
        return Ok(Some(patch));
    }
    Ok(None)
}

/// The softmax that makes input `slot` of a matrix product.
fn softmax_before<'m>(
    model: &'m TypedModel,
    node: &TypedNode,
    slot: usize,
) -> Option<&'m TypedNode> {
    node.op_as::<EinSum>().filter(|op| op.q_params.is_none() && node.inputs.len() == 2)?;
    let before = model.node(node.inputs[slot].node);
    let softmax = before.op_as::<Softmax>()?;
    let plain = matches!(softmax.kind, SoftmaxKind::Softmax)
        && softmax.quant_output_dt.is_none()
        && softmax.axes.len() == 1;
    (plain && fuse::sole_reader(model, before.id.into()).is_some()).then_some(before)
}

/// What happens between the product of queries and keys and the softmax.
struct Scores<'m> {
    product: &'m TypedNode,
    scale: f32,
    mask: Option<OutletId>,
}

impl<'m> Scores<'m> {
    fn trace(model: &'m TypedModel, softmax: &TypedNode) -> Option<Self> {
        let mut at = *softmax.inputs.first()?;
        let (mut scale, mut mask) = (1.0, None);
        loop {
            let node = model.node(at.node);
            fuse::sole_reader(model, at)?;
            if node.op_as::<EinSum>().is_some_and(|op| op.q_params.is_none()) {
                return (node.inputs.len() == 2).then_some(Self { product: node, scale, mask });
            }
            let scores = |slot: usize| -> bool {
                let fact = model.outlet_fact(node.inputs[slot]);
                constant(model, node.inputs[slot]).is_none()
                    && fact.is_ok_and(|fact| fact.shape == node.outputs[0].fact.shape)
            };
            if fuse::is_binary(node, "Mul") {
                let slot = (0..2).find(|slot| scores(*slot))?;
                let factor = constant(model, node.inputs[1 - slot]).filter(|v| v.len() == 1)?;
                scale *= *floats(&factor).ok()?.first()?;
                at = node.inputs[slot];
            } else if fuse::is_binary(node, "Add") && mask.is_none() && scale == 1.0 {
                // Of two tensors of one shape, the scores are those that come from a product.
                let from_product =
                    |slot: &usize| scores(*slot) && leads_to_product(model, node.inputs[*slot]);
                let slot = (0..2).find(from_product)?;
                mask = Some(node.inputs[1 - slot]);
                at = node.inputs[slot];
            } else {
                return None;
            }
        }
    }
}

fn leads_to_product(model: &TypedModel, outlet: OutletId) -> bool {
    let node = model.node(outlet.node);
    node.op_is::<EinSum>()
        || (fuse::is_binary(node, "Mul")
            && node.inputs.iter().any(|input| model.node(input.node).op_is::<EinSum>()))
}

/// The meaning of the axes of a matrix product; `None` if it is something else.
fn roles(model: &TypedModel, node: &TypedNode, left: usize) -> TractResult<Option<Roles>> {
    let Some(op) = node.op_as::<EinSum>() else { return Ok(None) };
    let shape = |outlet: OutletId| model.outlet_fact(outlet).map(|fact| &fact.shape);
    let (left_shape, right_shape) = (shape(node.inputs[left])?, shape(node.inputs[1 - left])?);
    let out_shape = shape(node.id.into())?;
    let mut roles = Roles::default();
    for axis in op.axes.iter_all_axes() {
        let long = |of: &[usize], shape: &ShapeFact| -> Option<Option<usize>> {
            (of.len() <= 1).then(|| of.first().copied().filter(|a| !shape[*a].is_one()))
        };
        let positions = (
            long(&axis.inputs[left], left_shape),
            long(&axis.inputs[1 - left], right_shape),
            long(&axis.outputs[0], out_shape),
        );
        let (Some(l), Some(r), Some(o)) = positions else { return Ok(None) };
        match (l, r, o) {
            (Some(l), Some(r), Some(o)) => roles.batch.push((l, r, o)),
            (Some(l), Some(r), None) => roles.summed.push((l, r)),
            (Some(l), None, Some(o)) => roles.left.push((l, o)),
            (None, Some(r), Some(o)) => roles.right.push((r, o)),
            (None, None, None) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(roles))
}

/// The element `at` of a list of axes; an axis of length one where there is none.
pub(super) fn axis_or_unit(axes: &[Axis], at: Option<usize>) -> Axis {
    at.map_or(Axis { length: 1.to_dim(), stride: 0.to_dim() }, |at| axes[at].clone())
}

/// One position, or none; `Err` if there are more.
fn at_most_one<T: Copy>(list: &[T]) -> Result<Option<T>, ()> {
    match list {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(()),
    }
}

/// The result of the second product, behind nodes that only move its axes.
struct Output {
    end: OutletId,
    /// Where each axis of the product is in the end.
    positions: Vec<usize>,
}

impl Output {
    fn plain(node: &TypedNode) -> Self {
        Self { end: node.id.into(), positions: (0..node.outputs[0].fact.rank()).collect() }
    }

    fn moved(model: &TypedModel, node: &TypedNode) -> Self {
        let mut output = Self::plain(node);
        while let Some(reader) = fuse::sole_reader(model, output.end)
            && let Some(&AxisOp::Move(from, to)) = reader.op_as::<AxisOp>()
        {
            for position in &mut output.positions {
                *position = match *position {
                    at if at == from => to,
                    at if from < at && at <= to => at - 1,
                    at if to <= at && at < from => at + 1,
                    at => at,
                };
            }
            output.end = reader.id.into();
        }
        output
    }
}

/// The two products of an attention, and what lies between them.
struct Products<'m> {
    /// The second one.
    node: &'m TypedNode,
    /// Which of its inputs are the weights of the values.
    weights_slot: usize,
    softmax: &'m TypedNode,
    scores: &'m Scores<'m>,
}

/// Builds the operator and lists its inputs; `None` if the two products do not form an attention.
fn operator(
    model: &TypedModel,
    products: &Products,
    output: &Output,
    (machine, buffers): (Machine, &Buffers),
) -> TractResult<Option<(AttentionOp, Vec<OutletId>)>> {
    let Products { node, weights_slot, softmax, scores } = *products;
    let (Some(first), Some(mut second)) =
        (roles(model, scores.product, 0)?, roles(model, node, weights_slot)?)
    else {
        return Ok(None);
    };
    second.move_outputs(&output.positions);
    let shapes = (
        at_most_one(&first.left),
        at_most_one(&first.right),
        at_most_one(&second.left),
        at_most_one(&second.right),
        at_most_one(&second.summed),
    );
    let (Ok(query), Ok(key), Ok(weight_row), Ok(value), Ok(weight_key)) = shapes else {
        return Ok(None);
    };
    let [(query_size, key_size)] = first.summed[..] else { return Ok(None) };
    let softmax_axis = softmax.op_as::<Softmax>().map(|op| op.axes[0]);
    // The same axis must be the keys in the scores, the softmax, and the second product.
    let key_in_scores = key.map(|(_, out)| out);
    let keys_agree = key_in_scores == weight_key.map(|(weights, _)| weights)
        && (key_in_scores.is_none() || key_in_scores == softmax_axis);
    let queries_agree = query.map(|(_, out)| out) == weight_row.map(|(weights, _)| weights);
    if !keys_agree || !queries_agree || first.batch.len() != second.batch.len() {
        return Ok(None);
    }
    // Batch axes in the order of the output, with their positions in q, k, v and the scores.
    let mut batch = Vec::new();
    for &(weights, value, out) in &second.batch {
        let Some(&(q, k, _)) = first.batch.iter().find(|(_, _, scores)| *scores == weights) else {
            return Ok(None);
        };
        batch.push((out, q, k, value, weights));
    }
    batch.sort_unstable();

    let mut q = StridedView::trace(model, scores.product.inputs[0], true)?;
    let mut k = StridedView::trace(model, scores.product.inputs[1], true)?;
    let mut v = StridedView::trace(model, node.inputs[1 - weights_slot], false)?;
    let value_axis = value.map(|(v, _)| v);
    for (view, size, outlet) in [
        (&mut q, Some(query_size), scores.product.inputs[0]),
        (&mut k, Some(key_size), scores.product.inputs[1]),
        (&mut v, value_axis, node.inputs[1 - weights_slot]),
    ] {
        let dense = |view: &StridedView| size.is_none_or(|at| view.axes[at].stride.is_one());
        if !dense(view) {
            *view = StridedView::identity(model, outlet)?;
        }
        if !dense(view) {
            return Ok(None);
        }
    }
    let shape = model.outlet_fact(output.end)?.shape.to_tvec();
    let out_axes = dense_axes(&shape);
    let value_out = value.map(|(_, out)| out);
    let out_row = weight_row.map(|(_, out)| out);
    // Rows of the output hold the values of one query and head.
    let values_last = value_out.is_none_or(|at| out_axes[at].stride.is_one());
    let (Ok(size), Ok(value_size)) =
        (q.axes[query_size].length.to_usize(), axis_or_unit(&v.axes, value_axis).length.to_usize())
    else {
        return Ok(None);
    };
    // A head without elements is left to tract.
    if !values_last || size == 0 || value_size == 0 {
        return Ok(None);
    }

    let mut inputs = Vec::new();
    let operand =
        |view: &StridedView, batch: Vec<usize>, row: Option<usize>, inputs: &mut Vec<OutletId>| {
            Operand {
                input: input_index(inputs, view.base),
                offset: view.offset.clone(),
                batch: batch.iter().map(|at| view.axes[*at].stride.clone()).collect(),
                row: axis_or_unit(&view.axes, row).stride,
            }
        };
    let q_operand =
        operand(&q, batch.iter().map(|b| b.1).collect(), query.map(|r| r.0), &mut inputs);
    let k_operand = operand(&k, batch.iter().map(|b| b.2).collect(), key.map(|r| r.0), &mut inputs);
    let v_operand =
        operand(&v, batch.iter().map(|b| b.3).collect(), weight_key.map(|r| r.1), &mut inputs);
    let score_axes = batch.iter().map(|b| b.4).collect::<Vec<_>>();
    let query_axis = query.map(|(_, out)| out);
    let mask = match scores.mask {
        None => MaskKind::None,
        Some(mask) => {
            match mask_kind(model, mask, &score_axes, query_axis, key_in_scores, &mut inputs)? {
                Some(kind) => kind,
                None => return Ok(None),
            }
        }
    };
    let outer = batch.iter().filter(|b| out_row.is_none_or(|row| b.0 < row)).count();
    let op = AttentionOp {
        machine,
        q: q_operand,
        k: k_operand,
        v: v_operand,
        mask,
        scale: q.factor * k.factor * scores.scale,
        batch: batch.iter().map(|b| out_axes[b.0].length.clone()).collect(),
        outer,
        queries: axis_or_unit(&q.axes, query.map(|r| r.0)).length,
        keys: axis_or_unit(&k.axes, key.map(|r| r.0)).length,
        size,
        value_size,
        shape,
        buffers: buffers.clone(),
    };
    Ok(op.scale.is_finite().then_some((op, inputs)))
}

/// The position of an outlet among the operator's inputs.
pub(super) fn input_index(inputs: &mut Vec<OutletId>, outlet: OutletId) -> usize {
    inputs.iter().position(|input| *input == outlet).unwrap_or_else(|| {
        inputs.push(outlet);
        inputs.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_axes_are_found_again() {
        let mut model = TypedModel::default();
        let source = model.add_source("x", f32::fact([2, 3, 4, 5])).unwrap();
        let mut at = source;
        for (i, (from, to)) in [(2, 0), (0, 3), (1, 2), (3, 1)].into_iter().enumerate() {
            at = model.wire_node(format!("move {i}"), AxisOp::Move(from, to), &[at]).unwrap()[0];
        }
        let rest = model.wire_node("rest", AxisOp::Add(0), &[at]).unwrap();
        model.select_output_outlets(&rest).unwrap();
        let output = Output::moved(&model, model.node(source.node));
        assert_eq!(output.end, at);
        let shape = &model.outlet_fact(at).unwrap().shape;
        for (length, position) in [2, 3, 4, 5].into_iter().zip(output.positions) {
            assert_eq!(shape[position], length.to_dim());
        }
    }
}
