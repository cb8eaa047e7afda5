//! The tract operator that runs an int8 linear layer.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::kernel::{Activation, Linear, Matrix, MatrixMut, QuantisedRows};

use super::crew;
use super::parallel::{self, Buffers};
use super::weight::floats;

/// Rows are shared out in multiples of this, so that tiles stay whole.
const ROW_UNIT: usize = 24;

/// `activation(x · Wᵀ + bias) (+ residual)` with int8 weights; each row of `x` is quantised with
/// its own range when the graph runs.
///
/// Inputs: `x`, any shape whose innermost dimensions are the weight's inputs; and the residual, if
/// there is one, of the shape of the output.
#[derive(Debug, Clone)]
pub(super) struct LinearOp {
    pub linear: Arc<Linear>,
    pub activation: Activation,
    /// Whether rows are rounded to 16 bits, in two times 8; there is no activation then.
    pub wide: bool,
    pub has_residual: bool,
    /// Whether the input is one column after another: its outermost dimensions are the weight's
    /// inputs.
    pub inputs_first: bool,
    /// Whether the output is one column after another.
    pub channels_first: bool,
    /// Shape of the output, whose innermost dimensions are the weight's outputs.
    pub shape: TVec<TDim>,
    pub buffers: Buffers,
}

impl PartialEq for LinearOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.linear, &other.linear)
            && self.activation == other.activation
            && self.wide == other.wide
            && self.has_residual == other.has_residual
            && self.inputs_first == other.inputs_first
            && self.channels_first == other.channels_first
            && self.shape == other.shape
    }
}

impl Eq for LinearOp {}

impl Hash for LinearOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.linear) as usize, self.activation, self.has_residual).hash(state);
    }
}

impl Op for LinearOp {
    fn name(&self) -> StaticName {
        "SextantLinear".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (k, n) = (self.linear.inputs(), self.linear.outputs());
        let residual = if self.has_residual { ", residual" } else { "" };
        let wide = if self.wide { ", 16 bits" } else { "" };
        Ok(vec![format!("{k} to {n}, {:?}{residual}{wide}", self.activation)])
    }

    op_as_typed_op!();
}

impl EvalOp for LinearOp {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = floats(&inputs[0])?;
        let shape = parallel::concrete_shape(&self.shape, context)?;
        let rows = x.len() / self.linear.inputs();
        ensure!(
            x.len() == rows * self.linear.inputs()
                && shape.iter().product::<usize>() == rows * self.linear.outputs(),
            "input {:?} does not fit output {shape:?}",
            inputs[0].shape(),
        );
        let residual = match inputs.get(1) {
            Some(residual) if self.has_residual => Some(floats(residual)?),
            _ => None,
        };
        ensure!(residual.is_none_or(|r| r.len() == rows * self.linear.outputs()));
        let turned_input = self.inputs_first.then(|| transposed(x, self.linear.inputs()));
        let x = turned_input.as_deref().unwrap_or(x);
        let low = self.wide.then(|| low_part(&self.linear, x, residual));
        let residual = low.as_deref().or(residual);
        let out = self.buffers.fill(&shape, |out| {
            if self.channels_first {
                let mut rows = vec![0.0; out.len()];
                run(&self.linear, x, self.activation, residual, &mut rows);
                out.copy_from_slice(&transposed(&rows, rows.len() / self.linear.outputs().max(1)));
            } else {
                run(&self.linear, x, self.activation, residual, out);
            }
            Ok(())
        })?;
        Ok(tvec!(out))
    }
}

impl TypedOp for LinearOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape.iter().cloned().collect::<ShapeFact>())))
    }

    as_op!();
}

/// What a layer makes of the part of each row that rounding to 8 bits takes away, rounded in its
/// turn, and the residual. Added to what it makes of the rounded rows, these are the results of rows
/// of 16 bits, as `W (a + b) = W a + W b`.
fn low_part(linear: &Linear, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
    let (inputs, outputs) = (linear.inputs(), linear.outputs());
    let mut high = QuantisedRows::default();
    high.quantise(linear.machine(), x, inputs);
    let mut low = x.to_vec();
    for (index, row) in low.chunks_exact_mut(inputs).enumerate() {
        let quantisation = high.quantisation(index);
        for (value, byte) in row.iter_mut().zip(high.row(index)) {
            *value -= quantisation.dequantise(*byte);
        }
    }
    let mut out = vec![0.0; high.rows() * outputs];
    run(linear, &low, Activation::None, residual, &mut out);
    for row in out.chunks_exact_mut(outputs) {
        row.iter_mut().zip(linear.bias()).for_each(|(value, bias)| *value -= bias);
    }
    out
}

/// Columns as rows: `values` is `rows` × (rest).
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    /// Columns written at a time, so that their lines stay in the cache.
    const BLOCK: usize = 32;
    let columns = values.len() / rows.max(1);
    let mut out = vec![0.0; values.len()];
    for start in (0..columns).step_by(BLOCK) {
        let end = (start + BLOCK).min(columns);
        for (r, row) in values.chunks_exact(columns).enumerate() {
            for (c, value) in row[start..end].iter().enumerate() {
                out[(start + c) * rows + r] = *value;
            }
        }
    }
    out
}

/// Runs a layer on as many threads of the present pool as are worth it.
pub(super) fn run(
    linear: &Linear,
    x: &[f32],
    activation: Activation,
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let (inputs, outputs) = (linear.inputs(), linear.outputs());
    let rows = x.len() / inputs;
    let threads = parallel::threads_for(linear.machine(), rows * inputs * outputs);
    if threads == 1 || rows == 0 {
        parallel::with_scratch(|s| linear.forward(x, activation, residual, out, s));
    } else if rows >= 2 * ROW_UNIT * threads {
        let chunk = rows.div_ceil(ROW_UNIT).div_ceil(threads) * ROW_UNIT;
        crew::for_each(out.par_chunks_mut(chunk * outputs).enumerate(), |(i, out)| {
            let rows = out.len() / outputs;
            let x = &x[i * chunk * inputs..][..rows * inputs];
            let residual = residual.map(|r| &r[i * chunk * outputs..][..rows * outputs]);
            parallel::with_scratch(|s| linear.forward(x, activation, residual, out, s));
        });
    } else {
        run_by_columns(linear, x, activation, residual, out, threads);
    }
}

/// Few rows: they are quantised once, and each thread computes some of the output channels.
fn run_by_columns(
    linear: &Linear,
    x: &[f32],
    activation: Activation,
    residual: Option<&[f32]>,
    out: &mut [f32],
    threads: usize,
) {
    let outputs = linear.outputs();
    let mut quantised = QuantisedRows::default();
    quantised.quantise(linear.machine(), x, linear.inputs());
    let rows = quantised.rows();
    let mut rest = MatrixMut::dense(out, rows, outputs);
    let mut tasks = Vec::new();
    for panels in parallel::share(linear.panels(), 1, threads) {
        let columns = linear.columns(panels.clone());
        let (mine, right) = rest.split_columns(columns.len());
        rest = right;
        let residual =
            residual.map(|r| Matrix::new(&r[columns.start..], rows, columns.len(), outputs));
        tasks.push((panels, residual, mine));
    }
    crew::for_each(tasks.into_par_iter(), |(panels, residual, out)| {
        linear.forward_quantised(&quantised, panels, activation, residual, out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_256_times_as_fine() {
        let machine = crate::kernel::Machine::active().unwrap();
        let (inputs, outputs, rows) = (67, 21, 5);
        let weights: Vec<i8> =
            (0..inputs * outputs).map(|i| ((i * 89 % 251) as i32 - 125) as i8).collect();
        let scales: Vec<f32> = (0..outputs).map(|o| 0.01 + o as f32 / 500.0).collect();
        let bias: Vec<f32> = (0..outputs).map(|o| o as f32 - 9.5).collect();
        let linear = Linear::new(machine, &weights, outputs, inputs, &scales, Some(&bias)).unwrap();
        let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let residual: Vec<f32> = (0..rows * outputs).map(|i| i as f32 / 50.0).collect();
        let exact = |row: usize, o: usize| -> f64 {
            let terms = (0..inputs)
                .map(|i| f64::from(x[row * inputs + i]) * f64::from(weights[o * inputs + i]));
            terms.sum::<f64>() * f64::from(scales[o])
                + f64::from(bias[o])
                + f64::from(residual[row * outputs + o])
        };
        let error = |out: &[f32]| -> f64 {
            let of = |i: usize| (f64::from(out[i]) - exact(i / outputs, i % outputs)).powi(2);
            (0..out.len()).map(of).sum::<f64>().sqrt()
        };
        let mut out = vec![0.0; rows * outputs];
        run(&linear, &x, Activation::None, Some(&residual), &mut out);
        let eight = error(&out);
        let low = low_part(&linear, &x, Some(&residual));
        run(&linear, &x, Activation::None, Some(&low), &mut out);
        assert!(eight > 0.1 && error(&out) < eight / 100.0, "{eight} and {}", error(&out));
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        for (rows, columns) in [(1, 1), (3, 70), (70, 3), (0, 0)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let turned = transposed(&values, rows);
            if columns > 1 {
                assert_eq!(turned[rows], 1.0);
            }
            assert_eq!(transposed(&turned, columns), values);
        }
    }
}
