//! The loops around the micro kernel [`Dot::tile`].

use std::ops::Range;

use super::gemm_output::{
    ByteOutput, FloatOutput, TILE, finish, requantise, requantise_with, store_bytes,
};
use super::pack::PackedWeights;
use super::simd::{Dot, entry_points, unrolled};
use super::{Activation, Linear, Matrix, MatrixMut, Quantisation, QuantisedRows, Requantisation};
#[cfg(target_arch = "aarch64")]
use super::{Machine, aarch64::packed_rows};

/// Rows of bytes to multiply: address, number of rows, bytes from row to row.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(super) start: *const u8,
    pub(super) count: usize,
    pub(super) stride: usize,
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
    (x, count): (&[u8], usize),
    input: Quantisation,
    activation: Activation,
    residual: Option<Matrix<'_, f32>>,
    out: &mut MatrixMut<'_, f32>,
) {
    let stride = linear.padded_inputs();
    assert!(x.len() >= count * stride, "rows are short");
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
    #[cfg(target_arch = "aarch64")]
    if linear.machine() == Machine::NeonDot
        && packed_rows::suits(stride)
        && packed_rows::gives_floats(&linear.weights, &output)
    {
        // SAFETY: as in `dynamic`.
        return unsafe { packed_rows::to_floats(rows, &linear.weights, output) };
    }
    // SAFETY: as in `dynamic`; with step 0 the one scale and zero point serve all rows.
    unsafe { to_float_on(linear.machine(), rows, &linear.weights, 0..linear.panels(), output) }
}

/// [`Linear::forward_static`] after its checks.
pub(crate) fn requantised(
    linear: &Linear,
    (x, count): (&[u8], usize),
    plan: &Requantisation,
    residual: Option<&[u8]>,
    out: &mut [u8],
) {
    let stride = linear.padded_inputs();
    assert!(x.len() >= count * stride, "rows are short");
    let rows = Rows { start: x.as_ptr(), count, stride };
    let residual = residual.map_or(std::ptr::null(), <[u8]>::as_ptr);
    let output = ByteOutput { plan, residual, out: out.as_mut_ptr() };
    #[cfg(target_arch = "aarch64")]
    if linear.machine() == Machine::NeonDot && packed_rows::suits(stride) {
        // SAFETY: as in `dynamic`.
        return unsafe { packed_rows::to_bytes(rows, &linear.weights, output) };
    }
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
    rows.count.div_ceil(blocks).max(1).next_multiple_of(weights.layout.tile_rows[3].max(1))
}

/// Calls `$body::<V, R, N>` with constants for `$vectors` and at most `$rows` rows, and gives the
/// number of rows done.
macro_rules! with_tile {
    ($V:ident, $vectors:expr, $rows:expr, $body:ident $args:tt) => {{
        let (vectors, rows): (usize, usize) = ($vectors, $rows);
        if $V::PANEL_VECTORS > 3 && vectors == 4 {
            with_tile!(@rows $V, 4, rows, $body $args, 6 4 2)
        } else if $V::PANEL_VECTORS > 2 && vectors == 3 {
            with_tile!(@rows $V, 3, rows, $body $args, 8 4 2)
        } else if $V::PANEL_VECTORS > 1 && vectors == 2 {
            with_tile!(@rows $V, 2, rows, $body $args, 12 8 6 4 2)
        } else {
            with_tile!(@rows $V, 1, rows, $body $args, 12 8 4 2)
        }
    }};
    (@rows $V:ident, $n:literal, $rows:ident, $body:ident $args:tt, $r:literal $($rest:literal)*) => {
        if $r <= $V::TILE_ROWS[$n - 1] && $rows >= $r {
            with_tile!(@call $V, $n, $r, $body $args)
        } else {
            with_tile!(@rows $V, $n, $rows, $body $args, $($rest)*)
        }
    };
    (@rows $V:ident, $n:literal, $rows:ident, $body:ident $args:tt,) => {
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
    let mut sums = [0i32; TILE];
    for start in (0..rows.count).step_by(block) {
        let end = (start + block).min(rows.count);
        for panel in panels.clone() {
            let vectors = weights.vectors(panel);
            let mut row = start;
            while row < end {
                let at = (row, panel);
                // SAFETY: row < rows.count, and the panel exists.
                unsafe {
                    let done = with_tile!(
                        V,
                        vectors,
                        end - row,
                        float_tile(rows, weights, at, &output, sums.as_mut_ptr())
                    );
                    let sums = &sums[..done * vectors * V::LANES];
                    finish::<V>(weights, (at, first_column), sums, vectors, &output);
                    row += done;
                }
            }
        }
    }
}

/// # Safety
/// As for [`multiply_to_float`], with `R` rows from `row` on; `out` holds `R * N` vectors.
#[inline(always)]
unsafe fn float_tile<V: Dot, const R: usize, const N: usize>(
    rows: Rows,
    weights: &PackedWeights,
    (row, panel): (usize, usize),
    output: &FloatOutput<'_>,
    out: *mut i32,
) {
    // SAFETY: the tile's rows and columns lie within what the caller vouches for.
    unsafe {
        let column = panel * weights.layout.panel_columns();
        let mut sums = [[V::splat_i(0); N]; R];
        unrolled!(R, |r| {
            let zero_point = *output.row_zero_points.add((row + r) * output.step);
            let factor = V::splat_i(V::OFFSET - zero_point);
            unrolled!(N, |n| {
                let total = V::load_i(weights.sums.as_ptr().add(column + n * V::LANES));
                let lacking = weights.lacking::<V>(column + n * V::LANES);
                sums[r][n] = V::add_i(V::mul_i(total, factor), lacking);
            });
        });
        let panel_data = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded);
        V::tile::<R, N>(
            rows.start.add(row * rows.stride),
            rows.stride,
            panel_data.cast(),
            weights.inputs_padded / V::K_GROUP,
            &mut sums,
        );
        unrolled!(R, |r| {
            unrolled!(N, |n| { V::store_i(out.add((r * N + n) * V::LANES), sums[r][n]) });
        });
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
                let at = (row, panel);
                // SAFETY: row < rows.count, and the panel exists.
                row += unsafe {
                    with_tile!(V, vectors, end - row, byte_tile(rows, weights, at, &output))
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
        let mut sums = [[V::splat_i(0); N]; R];
        unrolled!(N, |n| {
            let start = V::load_i(plan.start.as_ptr().add(column + n * V::LANES));
            unrolled!(R, |r| { sums[r][n] = start });
        });
        let panel_data = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded);
        V::tile::<R, N>(
            rows.start.add(row * rows.stride),
            rows.stride,
            panel_data.cast(),
            weights.inputs_padded / V::K_GROUP,
            &mut sums,
        );
        let at = row * weights.outputs + column;
        let (out, residual) = (output.out.add(at), output.residual);
        let columns = (weights.outputs - column, weights.outputs);
        if residual.is_null() {
            requantise::<V, R, N>(plan, column, &mut sums);
            store_bytes::<V, R, N>(plan, &sums, out, columns);
        } else {
            // A copy that may live in memory, so that the other branch's stays in registers.
            let mut sums = sums;
            requantise_with::<V, R, N>(plan, column, &mut sums, (residual.add(at), columns));
            store_bytes::<V, R, N>(plan, &sums, out, columns);
        }
    }
}
