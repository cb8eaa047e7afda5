//! The tract operator that runs attention, head by head.

use std::hash::{Hash, Hasher};

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::kernel::{Machine, Mask, Matrix, MatrixMut, attention};

use super::crew;
use super::parallel::{self, Buffers};
use super::weight::floats;

/// Where the operator finds the rows of one of its operands. The elements of a row follow one
/// another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Operand {
    /// Which input of the operator.
    pub input: usize,
    /// Where the first row lies in it.
    pub offset: TDim,
    /// Elements from head to head, for each batch axis.
    pub batch: Vec<TDim>,
    /// Elements from row to row.
    pub row: TDim,
}

/// Which keys a query may look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum MaskKind {
    /// All of them.
    None,
    /// Those up to its own position.
    Causal,
    /// What an input says, by adding it to the scores; rows may repeat.
    Additive(Operand),
}

/// `softmax(q · kᵀ · scale + mask) · v` for every head of every sequence.
#[derive(Debug, Clone)]
pub(super) struct AttentionOp {
    pub machine: Machine,
    pub q: Operand,
    pub k: Operand,
    pub v: Operand,
    pub mask: MaskKind,
    pub scale: f32,
    /// Lengths of the batch axes (sequences, heads), in the order of the output.
    pub batch: Vec<TDim>,
    /// How many of the batch axes lie outside of the queries in the output.
    pub outer: usize,
    pub queries: TDim,
    pub keys: TDim,
    pub size: usize,
    pub value_size: usize,
    /// Shape of the output.
    pub shape: TVec<TDim>,
    pub buffers: Buffers,
}

impl PartialEq for AttentionOp {
    fn eq(&self, other: &Self) -> bool {
        let key = |op: &Self| (op.q.clone(), op.k.clone(), op.v.clone(), op.mask.clone());
        key(self) == key(other)
            && self.scale.to_bits() == other.scale.to_bits()
            && self.shape == other.shape
    }
}

impl Eq for AttentionOp {}

impl Hash for AttentionOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.q, &self.k, &self.v, self.scale.to_bits()).hash(state);
    }
}

impl Op for AttentionOp {
    fn name(&self) -> StaticName {
        "SextantAttention".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let mask = match &self.mask {
            MaskKind::None => "no mask",
            MaskKind::Causal => "causal",
            MaskKind::Additive(_) => "additive mask",
        };
        Ok(vec![format!("{:?} heads of {}, {mask}", self.batch, self.size)])
    }

    op_as_typed_op!();
}

/// An operand with the strides of this run.
struct Rows<'a> {
    data: &'a [f32],
    offset: usize,
    batch: Vec<usize>,
    row: usize,
}

impl<'a> Rows<'a> {
    fn new(operand: &Operand, inputs: &'a [TValue], context: &EvalContext) -> TractResult<Self> {
        let length = |dim: &TDim| parallel::concrete(dim, context);
        Ok(Self {
            data: floats(&inputs[operand.input])?,
            offset: length(&operand.offset)?,
            batch: operand.batch.iter().map(length).collect::<TractResult<_>>()?,
            row: length(&operand.row)?,
        })
    }

    /// The rows of one head.
    fn head(&self, at: &[usize], rows: usize, columns: usize) -> Option<Matrix<'a, f32>> {
        let start = self.batch.iter().zip(at).map(|(stride, i)| stride * i).sum::<usize>();
        let data = self.data.get(self.offset + start..)?;
        let needed = rows.checked_sub(1)?.checked_mul(self.row)?.checked_add(columns)?;
        (needed <= data.len()).then(|| Matrix::new(data, rows, columns, self.row))
    }
}

impl EvalOp for AttentionOp {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let length = |dim: &TDim| parallel::concrete(dim, context);
        let (queries, keys) = (length(&self.queries)?, length(&self.keys)?);
        let batch: Vec<usize> = self.batch.iter().map(length).collect::<TractResult<_>>()?;
        let shape = parallel::concrete_shape(&self.shape, context)?;
        let heads = batch.iter().product::<usize>();
        ensure!(
            shape.iter().product::<usize>() == heads * queries * self.value_size,
            "attention does not fill its output {shape:?}"
        );
        let q = Rows::new(&self.q, &inputs, context)?;
        let k = Rows::new(&self.k, &inputs, context)?;
        let v = Rows::new(&self.v, &inputs, context)?;
        let mask = match &self.mask {
            MaskKind::Additive(operand) => Some(Rows::new(operand, &inputs, context)?),
            _ => None,
        };
        let out = self.buffers.fill(&shape, |out| {
            let inner = batch[self.outer..].iter().product();
            let tasks = heads_of(out, queries, inner, self.value_size);
            let run = |(head, out): (usize, MatrixMut<f32>)| -> TractResult<()> {
                let at = position(head, &batch);
                let (Some(q), Some(k), Some(v)) = (
                    q.head(&at, queries, self.size),
                    k.head(&at, keys, self.size),
                    v.head(&at, keys, self.value_size),
                ) else {
                    bail!("an operand of attention is too short");
                };
                let mask = match (&self.mask, &mask) {
                    (_, Some(mask)) => Mask::Additive(
                        mask.head(&at, queries, keys).context("the mask is too short")?,
                    ),
                    (MaskKind::Causal, None) => Mask::Causal,
                    _ => Mask::None,
                };
                parallel::with_scratch(|scratch| {
                    attention(self.machine, q, k, v, self.scale, mask, out, scratch);
                });
                Ok(())
            };
            let work =
                (heads * queries).saturating_mul(keys).saturating_mul(self.size + self.value_size);
            if parallel::threads_for(self.machine, work) == 1 {
                tasks.into_iter().enumerate().try_for_each(run)
            } else {
                crew::try_for_each(tasks.into_par_iter().enumerate(), run)
            }
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for AttentionOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape.iter().cloned().collect::<ShapeFact>())))
    }

    as_op!();
}

/// Cuts an output into its heads, each a matrix of `queries` rows. `inner` heads lie side by side in
/// a row of memory.
fn heads_of(out: &mut [f32], queries: usize, inner: usize, size: usize) -> Vec<MatrixMut<'_, f32>> {
    let columns = inner * size;
    if queries * columns == 0 {
        return Vec::new();
    }
    let mut heads = Vec::new();
    for block in out.chunks_exact_mut(queries * columns) {
        let mut rest = MatrixMut::dense(block, queries, columns);
        for _ in 0..inner {
            let (head, right) = rest.split_columns(size);
            heads.push(head);
            rest = right;
        }
    }
    heads
}

/// The position along each batch axis of head number `index`.
fn position(mut index: usize, batch: &[usize]) -> Vec<usize> {
    let mut at = vec![0; batch.len()];
    for (place, length) in at.iter_mut().zip(batch).rev() {
        *place = index % length;
        index /= length;
    }
    at
}
