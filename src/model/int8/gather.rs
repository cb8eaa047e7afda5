//! Embedding tables stay int8: rows are dequantised as they are looked up.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Gather;

use crate::kernel::{AlignedBytes, Arena};

use super::Passes;
use super::parallel::{self, Buffers};
use super::weight::{StoredWeight, WeightNode};

/// Looks up rows of an int8 table.
#[derive(Debug, Clone)]
struct GatherOp {
    table: Arc<Table>,
    /// Shape of the output.
    shape: TVec<TDim>,
    buffers: Buffers,
}

#[derive(Debug)]
struct Table {
    rows: usize,
    columns: usize,
    /// Signed bytes, row after row.
    values: AlignedBytes,
    scales: Scales,
}

#[derive(Debug)]
enum Scales {
    One(f32),
    PerRow(Vec<f32>),
    PerColumn(Vec<f32>),
}

impl Table {
    fn row(&self, index: i64, out: &mut [f32]) -> TractResult<()> {
        let rows = self.rows as i64;
        ensure!((-rows..rows).contains(&index), "row {index} of a table of {rows} rows");
        let index = index.rem_euclid(rows) as usize;
        let values = &self.values.as_slice()[index * self.columns..][..self.columns];
        let values = values.iter().map(|byte| byte.cast_signed());
        match &self.scales {
            Scales::PerColumn(scales) => {
                for ((out, value), scale) in out.iter_mut().zip(values).zip(scales) {
                    *out = f32::from(value) * scale;
                }
            }
            Scales::One(_) | Scales::PerRow(_) => {
                let scale = match &self.scales {
                    Scales::PerRow(scales) => scales[index],
                    Scales::One(scale) => *scale,
                    Scales::PerColumn(_) => 1.0,
                };
                for (out, value) in out.iter_mut().zip(values) {
                    *out = f32::from(value) * scale;
                }
            }
        }
        Ok(())
    }
}

impl PartialEq for GatherOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table) && self.shape == other.shape
    }
}

impl Eq for GatherOp {}

impl Hash for GatherOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.table) as usize).hash(state);
    }
}

impl Op for GatherOp {
    fn name(&self) -> StaticName {
        "SextantGather".into()
    }

    op_as_typed_op!();
}

impl EvalOp for GatherOp {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let indices = inputs[0].cast_to::<i64>()?;
        let indices = indices.try_as_plain_ram()?.as_slice::<i64>()?;
        let shape = parallel::concrete_shape(&self.shape, context)?;
        let columns = self.table.columns;
        ensure!(shape.iter().product::<usize>() == indices.len() * columns);
        let out = self.buffers.fill(&shape, |out| {
            let rows = out.chunks_exact_mut(columns);
            indices.iter().zip(rows).try_for_each(|(index, row)| self.table.row(*index, row))
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for GatherOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape.iter().cloned().collect::<ShapeFact>())))
    }

    as_op!();
}

/// The weights as signed bytes, copied on all threads of the present pool, if there is one.
fn signed_bytes(stored: &StoredWeight) -> AlignedBytes {
    /// Copied by a thread at a time.
    const BLOCK: usize = 1 << 20;
    let flip = if stored.unsigned { 0x80 } else { 0 };
    let mut values = Arena::new(stored.bytes.len()).take(stored.bytes.len());
    let copy = |(to, from): (&mut [u8], &[u8])| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ flip);
    };
    let to = values.as_mut_slice();
    match rayon::current_thread_index() {
        Some(_) => to.par_chunks_mut(BLOCK).zip(stored.bytes.par_chunks(BLOCK)).for_each(copy),
        None => copy((to, &stored.bytes)),
    }
    values
}

/// Replaces a gather of the rows of a stored weight.
pub(super) fn rewrite(
    passes: &mut Passes,
    model: &TypedModel,
    node: &TypedNode,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(gather) = node.op_as::<Gather>() else { return Ok(None) };
    let Some(weight) = model.node(node.inputs[0].node).op_as::<WeightNode>() else {
        return Ok(None);
    };
    let stored = &passes.weights[weight.index];
    let [rows, columns] = stored.shape[..] else { return Ok(None) };
    let f32_out = gather.output_type.is_none_or(|dt| dt == f32::datum_type());
    if gather.axis != 0 || !f32_out {
        return Ok(None);
    }
    let scales = match stored.axis {
        None => Scales::One(stored.scales[0]),
        Some(0) => Scales::PerRow(stored.scales.clone()),
        Some(_) => Scales::PerColumn(stored.scales.clone()),
    };
    let table = Table { rows, columns, values: signed_bytes(stored), scales };
    passes.packed(weight.index);
    let op = GatherOp {
        table: Arc::new(table),
        shape: node.outputs[0].fact.shape.to_tvec(),
        buffers: passes.buffers.clone(),
    };
    let mut patch = TypedModelPatch::default();
    let indices = patch.tap_model(model, node.inputs[1])?;
    let out = patch.wire_node(format!("{}.int8", node.name), op, &[indices])?;
    patch.shunt_outside(model, node.id.into(), out[0])?;
    Ok(Some(patch))
}
