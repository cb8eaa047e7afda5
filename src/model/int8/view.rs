//! Tensors seen through tract's transpositions, reshapes and slices: where each element lies in the
//! memory of the tensor they were made from.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, Slice};

use super::fuse;
use super::weight::{constant, floats};

/// One axis of a view: its length, and the elements from one position to the next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub length: TDim,
    pub stride: TDim,
}

/// A tensor as a strided view of another one, times a number.
#[derive(Debug, Clone)]
pub(super) struct StridedView {
    /// The tensor whose memory is read.
    pub base: OutletId,
    /// Where the first element lies in it.
    pub offset: TDim,
    /// The axes of the tensor viewed.
    pub axes: Vec<Axis>,
    /// What elements are multiplied by.
    pub factor: f32,
}

/// Nodes a view is followed through.
const MOST_STEPS: usize = 16;

impl StridedView {
    /// A tensor seen as it is.
    pub fn identity(model: &TypedModel, outlet: OutletId) -> TractResult<Self> {
        let shape = model.outlet_fact(outlet)?.shape.to_tvec();
        let axes = dense_axes(&shape);
        Ok(Self { base: outlet, offset: 0.to_dim(), axes, factor: 1.0 })
    }

    /// Follows a tensor back as far as it is a strided view of another, through
    /// multiplications by one number too if `scaled`.
    pub fn trace(model: &TypedModel, outlet: OutletId, scaled: bool) -> TractResult<Self> {
        let mut path = Vec::new();
        let mut at = outlet;
        while path.len() < MOST_STEPS {
            let node = model.node(at.node);
            let Some(input) = viewed_input(model, node, scaled) else { break };
            path.push(node);
            at = input;
        }
        // From the furthest start that works.
        for start in (0..=path.len()).rev() {
            let base =
                if start == 0 { outlet } else { path_input(model, path[start - 1], scaled)? };
            let mut view = Self::identity(model, base)?;
            if path[..start].iter().rev().all(|node| view.step(model, node).is_some()) {
                return Ok(view);
            }
        }
        Self::identity(model, outlet)
    }

    /// Applies one node to the view; `None` if the result is not a view.
    fn step(&mut self, model: &TypedModel, node: &TypedNode) -> Option<()> {
        if let Some(op) = node.op_as::<AxisOp>() {
            match op.canonical().as_ref() {
                AxisOp::Add(at) => {
                    self.axes.insert(*at, Axis { length: 1.to_dim(), stride: 0.to_dim() });
                }
                AxisOp::Rm(at) => {
                    self.axes.remove(*at);
                }
                AxisOp::Move(from, to) => {
                    let axis = self.axes.remove(*from);
                    self.axes.insert(*to, axis);
                }
                AxisOp::Reshape(at, from, to) => {
                    let range = *at..at + from.len();
                    let new = reshape(&self.axes[range.clone()], to)?;
                    self.axes.splice(range, new);
                }
            }
        } else if let Some(slice) = node.op_as::<Slice>() {
            let axis = &mut self.axes[slice.axis];
            self.offset += slice.start.clone() * &axis.stride;
            axis.length = slice.end.clone() - &slice.start;
        } else if let Some(gather) = node.op_as::<Gather>() {
            let axis = self.axes.remove(gather.axis);
            let index = gather_index(model, node, &axis.length)?;
            self.offset += axis.stride * index;
        } else {
            self.factor *= scalar_factor(model, node)?.1;
        }
        Some(())
    }
}

/// Axes of a tensor whose elements follow one another.
pub(super) fn dense_axes(shape: &[TDim]) -> Vec<Axis> {
    let mut stride = 1.to_dim();
    let mut axes: Vec<Axis> = shape
        .iter()
        .rev()
        .map(|length| {
            let axis = Axis { length: length.clone(), stride: stride.clone() };
            stride = stride.clone() * length;
            axis
        })
        .collect();
    axes.reverse();
    axes
}

/// The input that a node is a view of, if it is one.
fn viewed_input(model: &TypedModel, node: &TypedNode, scaled: bool) -> Option<OutletId> {
    if node.op_is::<AxisOp>() || node.op_is::<Slice>() {
        return node.inputs.first().copied();
    }
    if node.op_is::<Gather>() {
        gather_index(model, node, &1.to_dim())?;
        return node.inputs.first().copied();
    }
    if scaled { scalar_factor(model, node).map(|(input, _)| input) } else { None }
}

fn path_input(model: &TypedModel, node: &TypedNode, scaled: bool) -> TractResult<OutletId> {
    viewed_input(model, node, scaled).context("a view has an input")
}

/// The constant scalar index of a gather, counted from the front of an axis of this length.
fn gather_index(model: &TypedModel, node: &TypedNode, length: &TDim) -> Option<TDim> {
    let index = constant(model, *node.inputs.get(1)?).filter(|index| index.rank() == 0)?;
    let index = index.cast_to_scalar::<i64>().ok()?;
    Some(if index < 0 { length.clone() + index } else { index.to_dim() })
}

/// The input and the factor of a multiplication by one number.
fn scalar_factor(model: &TypedModel, node: &TypedNode) -> Option<(OutletId, f32)> {
    if !fuse::is_binary(node, "Mul") {
        return None;
    }
    (0..2).find_map(|slot| {
        let value = constant(model, node.inputs[slot]).filter(|value| value.len() == 1)?;
        let factor = *floats(&value).ok()?.first()?;
        let input = node.inputs[1 - slot];
        let same = model.outlet_fact(input).ok()?.shape == node.outputs[0].fact.shape;
        (factor.is_finite() && same).then_some((input, factor))
    })
}

/// The axes after a reshape, if these can be seen as one axis.
fn reshape(from: &[Axis], to: &[TDim]) -> Option<Vec<Axis>> {
    let long: Vec<&Axis> = from.iter().filter(|axis| !axis.length.is_one()).collect();
    for pair in long.windows(2) {
        if pair[0].stride != pair[1].stride.clone() * &pair[1].length {
            return None;
        }
    }
    let mut stride = long.last().map_or(1.to_dim(), |axis| axis.stride.clone());
    let mut axes: Vec<Axis> = to
        .iter()
        .rev()
        .map(|length| {
            let axis = Axis { length: length.clone(), stride: stride.clone() };
            stride = stride.clone() * length;
            axis
        })
        .collect();
    axes.reverse();
    Some(axes)
}
