//! Telling the masks of an attention apart.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;

use super::attention::{axis_or_unit, input_index};
use super::attention_op::{MaskKind, Operand};
use super::view::dense_axes;
use super::weight::{constant, floats};

/// A score this low hides its key: no sum of products makes up for it.
const HIDDEN: f32 = -1e4;

/// Tells causal, empty and other masks apart; `None` if the mask cannot be used.
pub(super) fn mask_kind(
    model: &TypedModel,
    mask: OutletId,
    batch: &[usize],
    query: Option<usize>,
    key: Option<usize>,
    inputs: &mut Vec<OutletId>,
) -> TractResult<Option<MaskKind>> {
    if let (Some(query), Some(key)) = (query, key)
        && let Some(value) = corner_of_constant(model, mask)
    {
        match classify(&value, query, key) {
            Some(MaskKind::None) => return Ok(Some(MaskKind::None)),
            Some(MaskKind::Causal) => return Ok(Some(MaskKind::Causal)),
            _ => {}
        }
    }
    let fact = model.outlet_fact(mask)?;
    if fact.datum_type != f32::datum_type() {
        return Ok(None);
    }
    let mut axes = dense_axes(&fact.shape);
    for axis in axes.iter_mut().filter(|axis| axis.length.is_one()) {
        axis.stride = 0.to_dim();
    }
    let stride = |at: Option<usize>| axis_or_unit(&axes, at).stride;
    if !stride(key).is_one() {
        // One number for all keys of a query changes nothing, but is not worth a case of its own.
        return Ok(None);
    }
    Ok(Some(MaskKind::Additive(Operand {
        input: input_index(inputs, mask),
        offset: 0.to_dim(),
        batch: batch.iter().map(|at| axes[*at].stride.clone()).collect(),
        row: stride(query),
    })))
}

/// The constant of which `outlet` is the upper left corner, or which it is.
fn corner_of_constant(model: &TypedModel, mut outlet: OutletId) -> Option<Arc<Tensor>> {
    let mut axes: Vec<&AxisOp> = Vec::new();
    loop {
        if let Some(value) = constant(model, outlet) {
            let mut value = value.into_tensor();
            for op in axes.iter().rev() {
                op.change_tensor(&mut value, false).ok()?;
            }
            return Some(value.into_arc_tensor());
        }
        let node = model.node(outlet.node);
        if let Some(slice) = node.op_as::<Slice>() {
            if slice.start != 0.to_dim() {
                return None;
            }
        } else if let Some(op @ (AxisOp::Add(_) | AxisOp::Rm(_))) = node.op_as::<AxisOp>() {
            axes.push(op);
        } else {
            return None;
        }
        outlet = *node.inputs.first()?;
    }
}

/// Whether a constant mask is empty or causal, alike for all heads.
fn classify(mask: &Tensor, query: usize, key: usize) -> Option<MaskKind> {
    let values = floats(mask).ok()?;
    if values.iter().all(|v| *v == 0.0) {
        return Some(MaskKind::None);
    }
    let shape = mask.shape();
    let (rows, columns) = (*shape.get(query)?, *shape.get(key)?);
    if rows != columns || query > key || rows * columns != values.len() {
        return None;
    }
    let causal = values.chunks_exact(columns).enumerate().all(|(i, row)| {
        row[..=i].iter().all(|v| *v == 0.0) && row[i + 1..].iter().all(|v| *v <= HIDDEN)
    });
    causal.then_some(MaskKind::Causal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(size: usize, value: impl Fn(usize, usize) -> f32) -> Tensor {
        let values: Vec<f32> = (0..size * size).map(|i| value(i / size, i % size)).collect();
        Tensor::from_shape(&[1, size, size], &values).unwrap()
    }

    #[test]
    fn causal_padding_and_empty_masks_are_told_apart() {
        let causal = mask(5, |i, j| if j > i { f32::NEG_INFINITY } else { 0.0 });
        assert_eq!(classify(&causal, 1, 2), Some(MaskKind::Causal));
        let lowest = mask(5, |i, j| if j > i { f32::MIN } else { 0.0 });
        assert_eq!(classify(&lowest, 1, 2), Some(MaskKind::Causal));
        assert_eq!(classify(&mask(5, |_, _| 0.0), 1, 2), Some(MaskKind::None));
        let padding = mask(5, |_, j| if j > 2 { f32::NEG_INFINITY } else { 0.0 });
        assert_eq!(classify(&padding, 1, 2), None);
        let window = mask(5, |i, j| if j > i || j + 2 < i { f32::MIN } else { 0.0 });
        assert_eq!(classify(&window, 1, 2), None);
        let soft = mask(5, |i, j| if j > i { -2.0 } else { 0.0 });
        assert_eq!(classify(&soft, 1, 2), None);
    }
}
