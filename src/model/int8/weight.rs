//! Int8 weights, and the node that stands for one in tract's graph.

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;

use crate::kernel::WeightMatrix;

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

    /// Elements at all sums of a row and a column offset, row by row.
    fn gather(&self, rows: &[usize], columns: &[usize]) -> Vec<i8> {
        /// Rows gathered at a time where they lie side by side in memory.
        const BLOCK: usize = 64;
        let consecutive = |offsets: &[usize]| offsets.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let length = columns.len();
        let mut out = vec![0; rows.len() * length];
        if consecutive(columns) {
            for (out, row) in out.chunks_exact_mut(length).zip(rows) {
                let bytes = &self.bytes[row + columns[0]..][..length];
                out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = self.signed(*byte));
            }
        } else if consecutive(rows) {
            for (block, rows) in out.chunks_mut(BLOCK * length).zip(rows.chunks(BLOCK)) {
                for (k, column) in columns.iter().enumerate() {
                    let bytes = &self.bytes[rows[0] + column..][..rows.len()];
                    for (row, byte) in bytes.iter().enumerate() {
                        block[row * length + k] = self.signed(*byte);
                    }
                }
            }
        } else {
            for (out, row) in out.chunks_exact_mut(length).zip(rows) {
                for (out, column) in out.iter_mut().zip(columns) {
                    *out = self.signed(self.bytes[row + column]);
                }
            }
        }
        out
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
    Axis(Box<AxisOp>),
    Slice { axis: usize, start: usize, end: usize },
}

/// One axis of a view: its length, and the elements from one position to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    length: usize,
    stride: usize,
}

/// A weight as rows of inputs, one row and one scale for each output channel.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    pub weights: Vec<i8>,
    pub scales: Vec<f32>,
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
                steps.push(ViewStep::Axis(Box::new(axis.clone())));
            } else if let Some(slice) = node.op_as::<Slice>() {
                let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
                steps.push(ViewStep::Slice { axis: slice.axis, start, end });
            } else {
                return None;
            }
            outlet = *node.inputs.first()?;
        }
    }

    /// The weight as a matrix where it lies, and the scale of each of its outputs: for axes as in
    /// [`WeightView::rows`]. `None` if it would have to be gathered, or scales vary in a row.
    pub fn matrix<'w>(
        &self,
        stored: &'w StoredWeight,
        outputs: &[usize],
        inputs: &[usize],
    ) -> Option<(WeightMatrix<'w>, Vec<f32>)> {
        let scales = self.scales(stored, outputs, inputs)?;
        let (axes, start) = self.follow(dense(&stored.shape))?;
        let (outputs, inputs) = (merged(&axes, outputs)?, merged(&axes, inputs)?);
        let lengths = [outputs.length, inputs.length];
        let strides = [outputs.stride, inputs.stride];
        let matrix = WeightMatrix::strided(stored.bytes.get(start..)?, lengths, strides).ok()?;
        Some((if stored.unsigned { matrix.offset_by_128() } else { matrix }, scales))
    }

    /// The weight as rows: the axes `outputs`, as the operator sees them, number the rows and the
    /// axes `inputs` the columns. `None` if a step cannot be followed, or scales vary in a row.
    pub fn rows(&self, stored: &StoredWeight, outputs: &[usize], inputs: &[usize]) -> Option<Rows> {
        let scales = self.scales(stored, outputs, inputs)?;
        let (values, start) = self.follow(dense(&stored.shape))?;
        let (outputs, inputs) = (offsets(&values, outputs, start), offsets(&values, inputs, 0));
        Some(Rows { weights: stored.gather(&outputs, &inputs), scales })
    }

    /// The scale of each row; `None` if a step cannot be followed, or scales vary in a row.
    fn scales(
        &self,
        stored: &StoredWeight,
        outputs: &[usize],
        inputs: &[usize],
    ) -> Option<Vec<f32>> {
        let scaled = stored.shape.iter().enumerate().map(|(axis, length)| Axis {
            length: *length,
            stride: usize::from(stored.axis == Some(axis)),
        });
        let (scales, first_scale) = self.follow(scaled.collect())?;
        if inputs.iter().any(|axis| scales[*axis].stride != 0) {
            return None;
        }
        let row_scales = offsets(&scales, outputs, first_scale);
        Some(row_scales.into_iter().map(|at| stored.scales[at]).collect())
    }

    /// Axes and start of a view after all steps.
    fn follow(&self, mut axes: Vec<Axis>) -> Option<(Vec<Axis>, usize)> {
        let mut start = 0;
        for step in &self.steps {
            match step {
                ViewStep::Slice { axis, start: from, end } => {
                    start += from * axes[*axis].stride;
                    axes[*axis].length = end - from;
                }
                ViewStep::Axis(op) => match op.canonical().as_ref() {
                    AxisOp::Add(at) => axes.insert(*at, Axis { length: 1, stride: 0 }),
                    AxisOp::Rm(at) => drop(axes.remove(*at)),
                    AxisOp::Move(from, to) => {
                        let axis = axes.remove(*from);
                        axes.insert(*to, axis);
                    }
                    AxisOp::Reshape(at, from, to) => {
                        let range = *at..at + from.len();
                        let new = reshape(&axes[range.clone()], to)?;
                        axes.splice(range, new);
                    }
                },
            }
        }
        Some((axes, start))
    }
}

/// Axes of a tensor whose elements follow one another.
fn dense(shape: &[usize]) -> Vec<Axis> {
    let stride = |axis: usize| shape[axis + 1..].iter().product();
    (0..shape.len()).map(|axis| Axis { length: shape[axis], stride: stride(axis) }).collect()
}

/// The axes after a reshape, if these can be seen as one axis.
fn reshape(from: &[Axis], to: &[TDim]) -> Option<Vec<Axis>> {
    let long: Vec<&Axis> = from.iter().filter(|axis| axis.length != 1).collect();
    if long.windows(2).any(|pair| pair[0].stride != pair[1].stride * pair[1].length) {
        return None;
    }
    let mut stride = long.last().map_or(0, |axis| axis.stride);
    let mut axes = Vec::new();
    for length in to.iter().rev() {
        let length = length.to_usize().ok()?;
        axes.push(Axis { length, stride });
        stride *= length;
    }
    axes.reverse();
    Some(axes)
}

/// Some axes as one, the last fastest; `None` if no single stride leads from each position to the next.
fn merged(axes: &[Axis], along: &[usize]) -> Option<Axis> {
    let long: Vec<Axis> =
        along.iter().map(|at| axes[*at]).filter(|axis| axis.length != 1).collect();
    if long.windows(2).any(|pair| pair[0].stride != pair[1].stride * pair[1].length) {
        return None;
    }
    let length = long.iter().map(|axis| axis.length).product();
    Some(Axis { length, stride: long.last().map_or(1, |axis| axis.stride) })
}

/// Where the elements along some axes lie, the last axis fastest.
fn offsets(axes: &[Axis], along: &[usize], start: usize) -> Vec<usize> {
    along.iter().fold(vec![start], |offsets, axis| {
        let Axis { length, stride } = axes[*axis];
        offsets.iter().flat_map(|at| (0..length).map(move |i| at + i * stride)).collect()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(shape: &[usize], axis: Option<usize>) -> StoredWeight<'static> {
        let count: usize = shape.iter().product();
        StoredWeight {
            name: "weight".to_owned(),
            shape: shape.to_vec(),
            bytes: (0..count).map(|i| (i * 37 % 251) as u8).collect::<Vec<_>>().into(),
            unsigned: false,
            scales: (0..axis.map_or(1, |a| shape[a])).map(|i| i as f32 + 1.0).collect(),
            axis,
        }
    }

    /// The rows by way of tract: the dequantised tensor, taken through the same steps.
    fn expected(stored: &StoredWeight, view: &WeightView, order: &[usize]) -> Vec<f32> {
        let mut value = stored.dequantise().unwrap();
        for step in &view.steps {
            match step {
                ViewStep::Axis(op) => op.change_tensor(&mut value, false).unwrap(),
                ViewStep::Slice { axis, start, end } => {
                    value = value.slice(*axis, *start, *end).unwrap();
                }
            }
        }
        floats(&value.permute_axes(order).unwrap()).unwrap().to_vec()
    }

    fn check(stored: &StoredWeight, steps: Vec<ViewStep>, outputs: &[usize], inputs: &[usize]) {
        let view = WeightView { index: 0, steps };
        let rows = view.rows(stored, outputs, inputs).unwrap();
        let length = rows.weights.len() / rows.scales.len();
        let back: Vec<f32> = (rows.weights.iter().enumerate())
            .map(|(i, w)| f32::from(*w) * rows.scales[i / length])
            .collect();
        let order: Vec<usize> = outputs.iter().chain(inputs).copied().collect();
        assert_eq!(back, expected(stored, &view, &order));
        if let Some((matrix, scales)) = view.matrix(stored, outputs, inputs) {
            let get = |i: usize| matrix.get(i / length, i % length);
            assert_eq!((0..rows.weights.len()).map(get).collect::<Vec<_>>(), rows.weights);
            assert_eq!(scales, rows.scales);
        } else {
            // Only axes turned against each other have no single stride.
            assert!(inputs.windows(2).any(|pair| pair[0] > pair[1]));
        }
    }

    #[test]
    fn rows_are_what_tract_makes_of_the_weight() {
        let dims = |d: &[usize]| d.iter().map(|d| d.to_dim()).collect::<TVec<TDim>>();
        check(&stored(&[6, 10], Some(0)), vec![], &[0], &[1]);
        check(&stored(&[6, 100], Some(1)), vec![], &[1], &[0]);
        let transpose = ViewStep::Axis(Box::new(AxisOp::Move(0, 1)));
        check(&stored(&[6, 10], Some(1)), vec![transpose.clone()], &[0], &[1]);
        let slice = ViewStep::Slice { axis: 1, start: 3, end: 9 };
        check(&stored(&[6, 12], Some(1)), vec![slice, transpose], &[0], &[1]);
        let heads = ViewStep::Axis(Box::new(AxisOp::Reshape(1, dims(&[12]), dims(&[3, 4]))));
        check(&stored(&[6, 12], Some(1)), vec![heads.clone()], &[1, 2], &[0]);
        check(&stored(&[6, 12], Some(0)), vec![heads], &[0], &[1, 2]);
        check(&stored(&[4, 3, 5], Some(0)), vec![], &[0], &[2, 1]);
        check(&stored(&[4, 3], None), vec![], &[1], &[0]);
    }

    #[test]
    fn scales_along_the_sum_are_refused() {
        let view = WeightView { index: 0, steps: vec![] };
        assert_eq!(view.rows(&stored(&[6, 10], Some(0)), &[1], &[0]), None);
    }
}
