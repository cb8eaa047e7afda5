//! Working memory, output buffers and the sharing out of rows to threads.
//!
//! Operators use the rayon pool that the graph runs in (`ThreadPool::install`) and none
//! otherwise: so there is one pool, and it is the caller's. Every row is computed by one thread in one
//! way, so results do not depend on the number of threads.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::kernel::{Machine, Scratch};

/// Work that one thread does within this time is not worth sharing, in microseconds.
const SHORTEST_SHARED: usize = 12;

/// About how many multiply-adds a thread does in a microsecond: measured on x86-64, estimated
/// from instruction tables on aarch64.
fn multiply_adds_in_a_microsecond(machine: Machine) -> usize {
    match machine {
        Machine::Scalar => 2_000,
        Machine::Avx2 => 90_000,
        Machine::AvxVnni => 250_000,
        Machine::Avx512Vnni => 500_000,
        Machine::Neon => 10_000,
        Machine::NeonDot => 40_000,
        Machine::NeonI8mm => 80_000,
    }
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::new(Scratch::new());
}

/// Lends the working memory of this thread.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    // Taken out meanwhile: a thread that waits for others may pick up a task that asks again.
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// How many threads an operator of `multiply_adds` should use: those of the pool it runs in.
pub(super) fn threads_for(machine: Machine, multiply_adds: usize) -> usize {
    let fewest = SHORTEST_SHARED * multiply_adds_in_a_microsecond(machine);
    match rayon::current_thread_index() {
        Some(_) if multiply_adds >= fewest => rayon::current_num_threads(),
        _ => 1,
    }
}

/// Cuts `0..length` into at most `parts` ranges whose ends are multiples of `unit`.
pub(super) fn share(
    length: usize,
    unit: usize,
    parts: usize,
) -> impl Iterator<Item = Range<usize>> {
    let units = length.div_ceil(unit);
    let step = units.div_ceil(parts.max(1)).max(1) * unit;
    (0..length).step_by(step).map(move |start| start..(start + step).min(length))
}

/// Output tensors that are used again once nobody reads them any more, so that a network which
/// ran once neither allocates nor clears memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Arc<Tensor>>>>);

/// Free buffers are let go when there are more than this: lengths may vary from run to run.
const MOST_BUFFERS: usize = 48;

impl Buffers {
    /// Lends a tensor of this shape with unspecified contents, to be written and
    /// [finished](Self::finish).
    pub fn lend(&self, shape: &[usize]) -> TractResult<Lent> {
        self.take(shape).map(Lent)
    }

    /// Turns a tensor that was lent into a value.
    pub fn finish(&self, lent: Lent) -> TValue {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < MOST_BUFFERS {
            buffers.push(lent.0.clone());
        }
        TValue::from_const(lent.0)
    }

    fn take(&self, shape: &[usize]) -> TractResult<Arc<Tensor>> {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |b: &mut Arc<Tensor>| b.shape() == shape && Arc::get_mut(b).is_some();
        if let Some(found) = buffers.iter_mut().position(fits) {
            return Ok(buffers.swap_remove(found));
        }
        if buffers.len() >= MOST_BUFFERS {
            buffers.retain_mut(|buffer| Arc::get_mut(buffer).is_none());
        }
        drop(buffers);
        Ok(Arc::new(Tensor::zero::<f32>(shape)?))
    }

    /// Has `write` fill a tensor of this shape; every element must be written.
    pub fn fill(
        &self,
        shape: &[usize],
        write: impl FnOnce(&mut [f32]) -> TractResult<()>,
    ) -> TractResult<TValue> {
        let mut lent = self.lend(shape)?;
        lent.with_floats(write)?;
        Ok(self.finish(lent))
    }
}

/// A tensor that nobody else reads.
#[derive(Debug)]
pub(super) struct Lent(Arc<Tensor>);

impl Lent {
    /// Has `write` write the elements.
    pub fn with_floats(
        &mut self,
        write: impl FnOnce(&mut [f32]) -> TractResult<()>,
    ) -> TractResult<()> {
        let tensor = Arc::get_mut(&mut self.0).context("an output buffer is in use")?;
        write(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)
    }
}

/// A length in this run.
pub(super) fn concrete(dim: &TDim, context: &EvalContext) -> TractResult<usize> {
    Ok(dim.eval(context.symbols).to_usize()?)
}

/// The lengths of a shape in this run.
pub(super) fn concrete_shape(shape: &[TDim], context: &EvalContext) -> TractResult<TVec<usize>> {
    shape.iter().map(|dim| concrete(dim, context)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for length in 0..40 {
            for unit in 1..7 {
                for parts in 0..5 {
                    let covered: Vec<usize> = share(length, unit, parts).flatten().collect();
                    assert_eq!(covered, (0..length).collect::<Vec<_>>());
                    assert!(share(length, unit, parts).count() <= parts.max(1));
                }
            }
        }
    }

    #[test]
    fn buffers_are_used_again_only_when_free() {
        let buffers = Buffers::default();
        let address = |value: &TValue| value.as_arc_tensor().map(Arc::as_ptr);
        let fill = |v: f32| {
            let write = |out: &mut [f32]| {
                out.fill(v);
                Ok(())
            };
            buffers.fill(&[3], write).unwrap()
        };
        let first = fill(1.0);
        let second = fill(2.0);
        assert_ne!(address(&first), address(&second));
        let freed = address(&first);
        drop(first);
        assert_eq!(address(&fill(3.0)), freed);
        assert_eq!(*second, tract_onnx::prelude::tensor1(&[2f32, 2.0, 2.0]));
    }
}
