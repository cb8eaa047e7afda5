//! Int8 weights, and the node that stands for one in tract's graph.

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;

/// A weight as the ONNX file stores it: `value = int8 * scale`.
#[derive(Debug, Clone)]
pub(super) struct StoredWeight<'a> {
    /// Name of the dequantised tensor.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// One byte an element, row-major; see `unsigned`.
    pub bytes: Cow<'a, [u8]>,
    /// Whether bytes are offset by 128 rather than in two's complement.
    pub unsigned: bool,
    /// One scale, or one for each position along `axis`.
    pub scales: Vec<f32>,
    /// The axis along which scales vary.
    pub axis: Option<usize>,
}

impl StoredWeight<'_> {
    /// The byte `byte` as a signed weight.
    fn signed(&self, byte: u8) -> i8 {
        if self.unsigned { (byte ^ 0x80) as i8 } else { byte as i8 }
    }

    /// The weights as signed integers, row-major.
    pub fn values(&self) -> Vec<i8> {
        self.bytes.iter().map(|byte| self.signed(*byte)).collect()
    }

    /// The scales, of a shape that broadcasts to the weight's.
    fn scale_tensor(&self) -> TractResult<Tensor> {
        let mut shape = vec![1; self.shape.len()];
        if let Some(axis) = self.axis {
            shape[axis] = self.scales.len();
        }
        Tensor::from_shape(&shape, &self.scales)
    }

    /// The weights as `f32`, for operators that stay on tract.
    pub fn dequantise(&self) -> TractResult<Tensor> {
        let inner: usize = self.axis.map_or(1, |axis| self.shape[axis + 1..].iter().product());
        let count = self.scales.len();
        let values: Vec<f32> = (self.bytes.iter().enumerate())
            .map(|(i, byte)| f32::from(self.signed(*byte)) * self.scales[i / inner % count])
            .collect();
        Tensor::from_shape(&self.shape, &values)
    }
}

/// Stands for a stored weight in the graph, so that tract does not fold it into an `f32`
/// constant. The pass replaces every such node; none is left in a graph that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct WeightNode {
    /// Position among the stored weights.
    pub index: usize,
    /// Dimensions, as stored.
    pub shape: TVec<usize>,
}

impl Op for WeightNode {
    fn name(&self) -> StaticName {
        "Int8Weight".into()
    }

    op_as_typed_op!();
}

impl EvalOp for WeightNode {
    not_out_of_plan!();
}

impl TypedOp for WeightNode {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&*self.shape)))
    }

    as_op!();
}

/// How an operator sees a stored weight: which one, and the axes after tract's transpositions,
/// reshapes and slices on the way to it.
#[derive(Debug, Clone)]
pub(super) struct WeightView {
    /// Position among the stored weights.
    pub index: usize,
    /// What happens to it on the way, in order.
    steps: Vec<ViewStep>,
}

#[derive(Debug, Clone)]
enum ViewStep {
    Axis(AxisOp),
    Slice { axis: usize, start: usize, end: usize },
}

/// A weight as an operator sees it.
#[derive(Debug)]
pub(super) struct ViewedWeight {
    /// Signed weights, of the shape that the operator sees.
    pub values: Tensor,
    /// Scales, of a shape that broadcasts to that of `values`.
    scales: Tensor,
}

impl ViewedWeight {
    /// The scales of the rows, if the axes `outputs` number the rows and `inputs` the columns;
    /// `None` if scales vary within a row.
    pub fn row_scales(&self, outputs: &[usize], inputs: &[usize]) -> TractResult<Option<Vec<f32>>> {
        if inputs.iter().any(|axis| self.scales.shape()[*axis] != 1) {
            return Ok(None);
        }
        let rank = self.scales.rank();
        let others = (0..rank).filter(|axis| !outputs.contains(axis));
        let order: Vec<usize> = outputs.iter().copied().chain(others).collect();
        let mut shape = vec![1; rank];
        for (to, from) in outputs.iter().enumerate() {
            shape[to] = self.values.shape()[*from];
        }
        let scales = self.scales.clone().permute_axes(&order)?.broadcast_to_shape(&shape)?;
        Ok(Some(floats(&scales)?.to_vec()))
    }
}

impl WeightView {
    /// Follows `outlet` back to a stored weight, through nodes that only rearrange it.
    pub fn trace(model: &TypedModel, mut outlet: OutletId) -> Option<Self> {
        let mut steps = Vec::new();
        loop {
            let node = model.node(outlet.node);
            if let Some(weight) = node.op_as::<WeightNode>() {
                steps.reverse();
                return Some(Self { index: weight.index, steps });
            } else if let Some(axis) = node.op_as::<AxisOp>() {
                steps.push(ViewStep::Axis(axis.clone()));
            } else if let Some(slice) = node.op_as::<Slice>() {
                let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
                steps.push(ViewStep::Slice { axis: slice.axis, start, end });
            } else {
                return None;
            }
            outlet = *node.inputs.first()?;
        }
    }

    /// The weight after all steps; `None` if a step cannot be followed.
    pub fn apply(&self, stored: &StoredWeight) -> TractResult<Option<ViewedWeight>> {
        let mut values = Tensor::from_shape(&stored.shape, &stored.values())?;
        let mut scales = stored.scale_tensor()?;
        for step in &self.steps {
            match step {
                ViewStep::Axis(op) => {
                    if let AxisOp::Reshape(at, from, to) = op {
                        let range = *at..at + from.len();
                        if scales.shape()[range.clone()].iter().all(|d| *d == 1) {
                            let mut shape = scales.shape().to_vec();
                            shape.splice(range, to.iter().map(|_| 1));
                            scales.set_shape(&shape)?;
                        } else {
                            let mut shape = scales.shape().to_vec();
                            shape[range.clone()].copy_from_slice(&values.shape()[range]);
                            scales = scales.broadcast_to_shape(&shape)?;
                            op.change_tensor(&mut scales, false)?;
                        }
                    } else {
                        op.change_tensor(&mut scales, false)?;
                    }
                    op.change_tensor(&mut values, false)?;
                }
                ViewStep::Slice { axis, start, end } => {
                    values = values.slice(*axis, *start, *end)?;
                    if scales.shape()[*axis] != 1 {
                        scales = scales.slice(*axis, *start, *end)?;
                    }
                }
            }
        }
        Ok(Some(ViewedWeight { values, scales }))
    }
}

/// The elements of a tensor as a slice of `f32`; an error if it is of another type.
pub(super) fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// The value of `outlet` if it never changes. Small constant sub-graphs are evaluated.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    /// Nodes deeper than this are not constant sub-graphs of the kind exporters leave.
    const DEPTH: usize = 8;
    fn evaluate(model: &TypedModel, outlet: OutletId, depth: usize) -> Option<Arc<Tensor>> {
        if let Some(value) = &model.outlet_fact(outlet).ok()?.konst {
            return Some(value.clone());
        }
        let node = model.node(outlet.node);
        if depth == 0 || node.inputs.is_empty() {
            return None;
        }
        let inputs: TVec<TValue> = (node.inputs.iter())
            .map(|input| Some(evaluate(model, *input, depth - 1)?.into_tvalue()))
            .collect::<Option<_>>()?;
        let outputs = node.op.eval_out_of_plan(inputs).ok()??;
        Some(outputs.into_iter().nth(outlet.slot)?.into_arc_tensor())
    }
    evaluate(model, outlet, DEPTH)
}
