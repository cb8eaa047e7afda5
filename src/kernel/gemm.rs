//! The loops around the micro kernel [`Dot::tile`], and what is done with its accumulators.

use std::ops::Range;

use super::activation::apply;
use super::pack::PackedWeights;
use super::simd::{Dot, entry_points};
use super::{Activation, Linear, Matrix, MatrixMut, Quantisation, QuantisedRows, Requantisation};

/// Rows of bytes to multiply: address, number of rows, bytes from row to row.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    start: *const u8,
    count: usize,
    stride: usize,
}

/// How accumulators become floats.
#[derive(Clone, Copy)]
pub(crate) struct FloatOutput<'a> {
    scales: &'a [f32],
    bias: &'a [f32],
    /// One scale and zero point per row, or (with `step` 0) one for all.
    row_scales: *const f32,
    row_zero_points: *const i32,
    step: usize,
    activation: Activation,
    /// Null for none.
    residual: *const f32,
    residual_stride: usize,
    out: *mut f32,
    stride: usize,
}

/// How accumulators become bytes; `out` and `residual` are dense rows.
#[derive(Clone, Copy)]
pub(crate) struct ByteOutput<'a> {
    plan: &'a Requantisation,
    /// Null for none.
    residual: *const u8,
    out: *mut u8,
}

/// [`Linear::forward_quantised`] after its checks.
pub(crate) fn dynamic(
    linear: &Linear,
    x: &QuantisedRows,
    panels: Range<usize>,
    activation: Activation,
    residual: Option<Matrix<'_, f32>>,
    out: &mut MatrixMut<'_, f32>,
) {
    let rows = Rows { start: x.bytes.as_slice().as_ptr(), count: x.rows, stride: x.stride };
    assert!(x.bytes.as_slice().len() >= x.rows * x.stride, "rows are shorter than they say");
    assert!(x.scales.len() == x.rows && x.zero_points.len() == x.rows, "parameters are missing");
    let output = FloatOutput {
        scales: &linear.scales,
        bias: &linear.bias,
        row_scales: x.scales.as_ptr(),
        row_zero_points: x.zero_points.as_ptr(),
        step: 1,
        activation,
        residual: residual.map_or(std::ptr::null(), |r| r.as_ptr()),
        residual_stride: residual.map_or(0, |r| r.stride()),
        out: out.as_mut_ptr(),
        stride: out.stride(),
    };
    // SAFETY: the machine was available when `linear` was made; the caller checked all shapes.
    unsafe { to_float_on(linear.machine(), rows, &linear.weights, panels, output) }
}

/// [`Linear::forward_static_to_float`] after its checks.
pub(crate) fn to_float(
    linear: &Linear,
    (x, count, stride): (&[u8], usize, usize),
    input: Quantisation,
    activation: Activation,
    residual: Option<Matrix<'_, f32>>,
    out: &mut MatrixMut<'_, f32>,
) {
    assert!(x.len() >= count * stride && stride == linear.weights.inputs_padded, "rows are short");
    let rows = Rows { start: x.as_ptr(), count, stride };
    let zero_point = i32::from(input.zero_point);
    let output = FloatOutput {
        scales: &linear.scales,
        bias: &linear.bias,
        row_scales: &raw const input.scale,
        row_zero_points: &raw const zero_point,
        step: 0,
        activation,
        residual: residual.map_or(std::ptr::null(), |r| r.as_ptr()),
        residual_stride: residual.map_or(0, |r| r.stride()),
        out: out.as_mut_ptr(),
        stride: out.stride(),
    };
    // SAFETY: as in `dynamic`; with step 0 the one scale and zero point serve all rows.
    unsafe { to_float_on(linear.machine(), rows, &linear.weights, 0..linear.panels(), output) }
}

/// [`Linear::forward_static`] after its checks.
pub(crate) fn requantised(
    linear: &Linear,
    (x, count, stride): (&[u8], usize, usize),
    plan: &Requantisation,
    residual: Option<&[u8]>,
    out: &mut [u8],
) {
    assert!(x.len() >= count * stride && stride == linear.weights.inputs_padded, "rows are short");
    let rows = Rows { start: x.as_ptr(), count, stride };
    let residual = residual.map_or(std::ptr::null(), <[u8]>::as_ptr);
    let output = ByteOutput { plan, residual, out: out.as_mut_ptr() };
    // SAFETY: as in `dynamic`.
    unsafe { to_bytes_on(linear.machine(), rows, &linear.weights, output) }
}

entry_points! {
    /// Products to floats, on a machine.
    fn to_float_on(rows: Rows, weights: &PackedWeights, panels: Range<usize>,
        output: FloatOutput<'_>) = multiply_to_float;
    /// Products to bytes, on a machine.
    fn to_bytes_on(rows: Rows, weights: &PackedWeights, output: ByteOutput<'_>)
        = multiply_to_bytes;
}

/// Rows worked on together: few enough to stay in a cache while all panels pass over them.
fn block_rows(rows: Rows, weights: &PackedWeights) -> usize {
    let weights_bytes = weights.data.as_slice().len();
    // Weights that fit the first cache leave it to the rows to fit as well; otherwise the
    // second, where the weights come from.
    let budget = if weights_bytes <= 32 << 10 { 16 << 10 } else { 128 << 10 };
    let most = (budget / rows.stride).max(32);
    let blocks = rows.count.div_ceil(most).max(1);
    rows.count.div_ceil(blocks).next_multiple_of(weights.layout.tile_rows[3].max(1))
}

/// Calls `$body::<V, R, N>` with the constants for `$vectors` and at most `$rows` rows, and
/// gives the number of rows done.
macro_rules! with_tile {
    ($V:ident, $vectors:expr, $rows:expr, $body:ident($($arg:expr),*)) => {
        match $vectors {
            1 => with_tile!(@rows $V, 1, $rows, $body($($arg),*)),
            2 => with_tile!(@rows $V, 2, $rows, $body($($arg),*)),
            3 => with_tile!(@rows $V, 3, $rows, $body($($arg),*)),
            _ => with_tile!(@rows $V, 4, $rows, $body($($arg),*)),
        }
    };
    (@rows $V:ident, $n:literal, $rows:expr, $body:ident $args:tt) => {{
        let rows: usize = $rows;
        with_tile!(@try $V, $n, rows, $body $args, 14 12 10 8 6 5 4 3 2)
    }};
    (@try $V:ident, $n:literal, $rows:ident, $body:ident $args:tt, $r:literal $($rest:literal)*) => {
        if $r <= $V::TILE_ROWS[$n - 1] && $rows >= $r {
            with_tile!(@call $V, $n, $r, $body $args)
        } else {
            with_tile!(@try $V, $n, $rows, $body $args, $($rest)*)
        }
    };
    (@try $V:ident, $n:literal, $rows:ident, $body:ident $args:tt,) => {
        with_tile!(@call $V, $n, 1, $body $args)
    };
    (@call $V:ident, $n:literal, $r:literal, $body:ident($($arg:expr),*)) => {{
        $body::<$V, $r, $n>($($arg),*);
        $r
    }};
}

/// # Safety
/// `rows` are readable; `output` is writable for `rows.count` rows of the panels' columns.
#[inline(always)]
unsafe fn multiply_to_float<V: Dot>(
    rows: Rows,
    weights: &PackedWeights,
    panels: Range<usize>,
    output: FloatOutput<'_>,
) {
    let first_column = panels.start * weights.layout.panel_columns();
    let block = block_rows(rows, weights);
    for start in (0..rows.count).step_by(block) {
        let end = (start + block).min(rows.count);
        for panel in panels.clone() {
            let vectors = weights.vectors(panel);
            let mut row = start;
            while row < end {
                // SAFETY: row < rows.count, and the panel exists.
                row += unsafe {
                    with_tile!(
                        V,
                        vectors,
                        end - row,
                        float_tile(rows, weights, (row, panel, first_column), &output)
                    )
                };
            }
        }
    }
}

/// # Safety
/// As for [`multiply_to_float`], with `R` rows from `row` on.
#[inline(always)]
unsafe fn float_tile<V: Dot, const R: usize, const N: usize>(
    rows: Rows,
    weights: &PackedWeights,
    (row, panel, first_column): (usize, usize, usize),
    output: &FloatOutput<'_>,
) {
    // SAFETY: the tile's rows and columns lie within what the caller vouches for.
    unsafe {
        let column = panel * weights.layout.panel_columns();
        let mut sums = [[V::splat_i(0); N]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let zero_point = *output.row_zero_points.add((row + r) * output.step);
            let factor = V::splat_i(V::OFFSET - zero_point);
            for (n, sum) in sums.iter_mut().enumerate() {
                let total = V::load_i(weights.sums.as_ptr().add(column + n * V::LANES));
                *sum = V::mul_i(total, factor);
            }
        }
        let panel_data = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded);
        V::tile::<R, N>(
            rows.start.add(row * rows.stride),
            rows.stride,
            panel_data.cast(),
            weights.inputs_padded / V::K_GROUP,
            &mut sums,
        );
        for (r, sums) in sums.iter().enumerate() {
            let scale = V::splat(*output.row_scales.add((row + r) * output.step));
            let out = output.out.add((row + r) * output.stride + column - first_column);
            for (n, &sum) in sums.iter().enumerate() {
                let at = column + n * V::LANES;
                let count = (weights.outputs - at).min(V::LANES);
                let scale = V::mul(scale, V::load(output.scales.as_ptr().add(at)));
                let bias = V::load(output.bias.as_ptr().add(at));
                let mut y = apply::<V>(output.activation, V::fma(V::to_float(sum), scale, bias));
                if !output.residual.is_null() {
                    let at = (row + r) * output.residual_stride + at - first_column;
                    y = V::add(y, V::load_part(output.residual.add(at), count));
                }
                V::store_part(out.add(n * V::LANES), y, count);
            }
        }
    }
}

/// # Safety
/// `rows` are readable; `output` is writable for `rows.count` rows of all columns.
#[inline(always)]
unsafe fn multiply_to_bytes<V: Dot>(rows: Rows, weights: &PackedWeights, output: ByteOutput<'_>) {
    let block = block_rows(rows, weights);
    for start in (0..rows.count).step_by(block) {
        let end = (start + block).min(rows.count);
        for panel in 0..weights.panels() {
            let vectors = weights.vectors(panel);
            let mut row = start;
            while row < end {
                // SAFETY: row < rows.count, and the panel exists.
                row += unsafe {
                    with_tile!(
                        V,
                        vectors,
                        end - row,
                        byte_tile(rows, weights, (row, panel), &output)
                    )
                };
            }
        }
    }
}

/// # Safety
/// As for [`multiply_to_bytes`], with `R` rows from `row` on.
#[inline(always)]
unsafe fn byte_tile<V: Dot, const R: usize, const N: usize>(
    rows: Rows,
    weights: &PackedWeights,
    (row, panel): (usize, usize),
    output: &ByteOutput<'_>,
) {
    // SAFETY: the tile's rows and columns lie within what the caller vouches for.
    unsafe {
        let column = panel * weights.layout.panel_columns();
        let plan = output.plan;
        let mut start = [V::splat_i(0); N];
        for (n, start) in start.iter_mut().enumerate() {
            *start = V::load_i(plan.start.as_ptr().add(column + n * V::LANES));
        }
        let mut sums = [start; R];
        let panel_data = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded);
        V::tile::<R, N>(
            rows.start.add(row * rows.stride),
            rows.stride,
            panel_data.cast(),
            weights.inputs_padded / V::K_GROUP,
            &mut sums,
        );
        for (r, sums) in sums.iter().enumerate() {
            let at = (row + r) * weights.outputs + column;
            let residual =
                if output.residual.is_null() { output.residual } else { output.residual.add(at) };
            store_row::<V, N>(
                plan,
                column,
                weights.outputs - column,
                sums,
                residual,
                output.out.add(at),
            );
        }
    }
}

/// Requantises one row of a tile and stores at most `count` bytes of it.
///
/// # Safety
/// `plan` covers the row's columns; `residual` (unless null) and `out` hold `count` bytes, or
/// `N * LANES` if that is less.
#[inline(always)]
unsafe fn store_row<V: Dot, const N: usize>(
    plan: &Requantisation,
    column: usize,
    count: usize,
    sums: &[V::I; N],
    residual: *const u8,
    out: *mut u8,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let (low, high) = (V::splat(f32::from(plan.low)), V::splat(f32::from(plan.high)));
        let ratio = V::splat(plan.residual.unwrap_or(0.0));
        let mut results = [V::splat_i(0); N];
        for n in 0..N {
            let at = column + n * V::LANES;
            let multiplier = V::load(plan.multipliers.as_ptr().add(at));
            let addend = V::load(plan.addends.as_ptr().add(at));
            let mut y = V::fma(V::to_float(sums[n]), multiplier, addend);
            if !residual.is_null() {
                let here = count.saturating_sub(n * V::LANES).min(V::LANES);
                let bytes = V::load_u8_part(residual.add(n * V::LANES), here);
                y = V::fma(V::to_float(bytes), ratio, y);
            }
            // Clamped as floats, before rounding: the ends are integers, so the order is free.
            results[n] = V::to_int(V::min(V::max(y, low), high));
        }
        if N == 4 && count >= 4 * V::LANES {
            V::store_u8_four(out, [results[0], results[1], results[2], results[N - 1]]);
            return;
        }
        for (n, &result) in results.iter().enumerate() {
            let here = count.saturating_sub(n * V::LANES).min(V::LANES);
            V::store_u8_part(out.add(n * V::LANES), result, here);
        }
    }
}
