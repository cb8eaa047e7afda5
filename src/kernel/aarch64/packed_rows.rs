//! Matrix products by `sdot`, with rows packed first.
//!
//! The same sums as the general tiles' ([`crate::kernel::gemm`]), in fewer instructions. A few rows at a time
//! are copied as signed bytes, four rows by sixteen inputs side by side: the exclusive-or is then done
//! once and not for every panel, and one `ld1` loads the activations, as another loads the weights,
//! of 64 products in every lane.

use std::arch::aarch64::*;
use std::mem::MaybeUninit;

use super::multiply_long::to_signed;
use super::packed_tile::multiply;
use super::requantise::{Finish, Floats};
use crate::kernel::Activation;
use crate::kernel::gemm::Rows;
use crate::kernel::gemm_output::{ByteOutput, FloatOutput};
use crate::kernel::pack::PackedWeights;
use crate::kernel::simd::unrolled;

/// Rows multiplied together.
pub(super) const ROWS: usize = 4;
/// Inputs of a row side by side, as many as a vector holds.
const INPUTS: usize = 16;
/// Vectors of packed rows: half of a first-level cache.
const ROOM: usize = (32 << 10) / INPUTS;

/// Whether rows of so many (padded) inputs fit.
pub(crate) fn suits(inputs_padded: usize) -> bool {
    inputs_padded.div_ceil(INPUTS) * ROWS <= ROOM
}

/// [`crate::kernel::gemm::requantised`] after its checks.
///
/// # Safety
/// The processor has the dot product; `rows` are readable, suit ([`suits`]) and are as long as the weights
/// say; `output` is writable for as many rows of all columns.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn to_bytes(rows: Rows, weights: &PackedWeights, output: ByteOutput<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        each_panel(rows, weights, |packed, first, count, panel| {
            let at = (first, count, panel);
            let plain = is_plain(weights, panel, output);
            match weights.vectors(panel) {
                1 => bytes_of_panel::<1, false>(packed, weights, at, output),
                2 => bytes_of_panel::<2, false>(packed, weights, at, output),
                3 => bytes_of_panel::<3, false>(packed, weights, at, output),
                _ if plain => bytes_of_panel::<4, true>(packed, weights, at, output),
                _ => bytes_of_panel::<4, false>(packed, weights, at, output),
            }
        });
    }
}

/// Whether [`to_floats`] can give that: whole panels of outputs, and no more than a range to clamp to.
pub(crate) fn gives_floats(weights: &PackedWeights, output: &FloatOutput<'_>) -> bool {
    output.step == 0
        && output.residual.is_null()
        && weights.outputs.is_multiple_of(weights.layout.panel_columns())
        && range_of(output.activation).is_some()
}

/// [`crate::kernel::gemm::to_float`] after its checks.
///
/// # Safety
/// As for [`to_bytes`], and [`gives_floats`].
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn to_floats(rows: Rows, weights: &PackedWeights, output: FloatOutput<'_>) {
    let range = range_of(output.activation).unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let columns = weights.layout.panel_columns();
    // SAFETY: as the caller promises; with step 0 the first scale and zero point serve all rows, and arrays by output
    // channel hold all columns of a whole panel.
    unsafe {
        let factor = weights.layout.offset - *output.row_zero_points;
        each_panel(rows, weights, |packed, first, count, panel| {
            let column = panel * columns;
            let sums = &weights.sums[column..column + columns];
            let start: [i32; 16] = std::array::from_fn(|i| sums[i].wrapping_mul(factor));
            let scales = &output.scales[column..column + columns];
            let finish = Floats::new(*output.row_scales, scales, &output.bias[column..], range);
            let out = output.out.add(first * output.stride + column);
            let store = |at: usize, sums| finish.store(sums, out.add(at));
            each_row::<4>(packed, weights, (count, panel), start.as_ptr(), output.stride, store);
        });
    }
}

/// What an activation clamps to, if that is all that it does.
fn range_of(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Relu6 => Some((0.0, 6.0)),
        _ => None,
    }
}

/// Packs rows, as many at a time as there is room for, and hands them on for every panel: `multiply` gets the packed
/// rows, the number of the first and how many they are, and the panel.
///
/// # Safety
/// As for [`to_bytes`].
#[inline(always)]
unsafe fn each_panel(
    rows: Rows,
    weights: &PackedWeights,
    multiply: impl Fn(*const int8x16_t, usize, usize, usize),
) {
    let blocks = weights.inputs_padded.div_ceil(INPUTS);
    let mut packed = [const { MaybeUninit::<int8x16_t>::uninit() }; ROOM];
    let packed = packed.as_mut_ptr().cast::<int8x16_t>();
    let most = ROOM / (blocks * ROWS) * ROWS;
    for first in (0..rows.count).step_by(most) {
        let count = most.min(rows.count - first);
        // SAFETY: `count` rows from `first` on exist, and whole tiles of them fit.
        unsafe {
            let part = Rows { start: rows.start.add(first * rows.stride), count, ..rows };
            pack_rows(part, packed);
        }
        for panel in 0..weights.panels() {
            multiply(packed, first, count, panel);
        }
    }
}

/// Whether a panel's sums are only to be scaled and rounded, which is so for most.
fn is_plain(weights: &PackedWeights, panel: usize, output: ByteOutput<'_>) -> bool {
    let whole = (panel + 1) * weights.layout.panel_columns() <= weights.outputs;
    whole && output.plan.takes_all_bytes() && output.residual.is_null()
}

/// Packs rows as signed bytes: tile after tile of four rows; in it, for every sixteen inputs, those of each
/// row. A tile that lacks rows has its last one repeated; inputs behind a row's end are zero.
///
/// # Safety
/// The rows are readable for their stride; `to` is writable for whole tiles.
#[inline(always)]
unsafe fn pack_rows(rows: Rows, to: *mut int8x16_t) {
    let mut to = to.cast::<i8>();
    let (whole, rest) = (rows.stride / INPUTS, rows.stride % INPUTS);
    for tile in (0..rows.count).step_by(ROWS) {
        // SAFETY: as the caller promises.
        unsafe {
            let row = |r: usize| rows.start.add((tile + r).min(rows.count - 1) * rows.stride);
            let from = [row(0), row(1), row(2), row(3)];
            for block in 0..whole {
                let [a, b, c, d] = from.map(|row| to_signed(vld1q_u8(row.add(block * INPUTS))));
                vst1q_s8_x4(to, int8x16x4_t(a, b, c, d));
                to = to.add(ROWS * INPUTS);
            }
            if rest > 0 {
                let end = whole * INPUTS;
                let [a, b, c, d] = from.map(|row| to_signed(load_rest(row.add(end), rest)));
                vst1q_s8_x4(to, int8x16x4_t(a, b, c, d));
                to = to.add(ROWS * INPUTS);
            }
        }
    }
}

/// Loads 4, 8 or 12 bytes; what else the vector holds meets no weight.
///
/// # Safety
/// As many bytes are readable.
#[inline(always)]
unsafe fn load_rest(from: *const u8, count: usize) -> uint8x16_t {
    // SAFETY: as the caller promises.
    unsafe {
        let low = if count >= 8 { vld1_u8(from) } else { vdup_n_u8(0) };
        let last = vdup_n_u32(from.add(count - 4).cast::<u32>().read_unaligned());
        let last = vreinterpret_u8_u32(last);
        if count == 4 { vcombine_u8(last, low) } else { vcombine_u8(low, last) }
    }
}

/// Multiplies packed rows with one panel of `V` vectors of output channels, and stores bytes.
///
/// # Safety
/// The dot product is enabled; `count` rows are packed, whose results go to rows `first` and on of the output;
/// the panel has `V` vectors, and is plain if it is said to be.
#[inline(always)]
unsafe fn bytes_of_panel<const V: usize, const PLAIN: bool>(
    packed: *const int8x16_t,
    weights: &PackedWeights,
    (first, count, panel): (usize, usize, usize),
    output: ByteOutput<'_>,
) {
    let (outputs, column) = (weights.outputs, panel * weights.layout.panel_columns());
    let (plan, begin) = (output.plan, first * outputs + column);
    // SAFETY: as the caller promises; arrays by output channel are padded to whole vectors.
    unsafe {
        let finish = Finish::<V, PLAIN>::new(plan, column, outputs - column);
        let start = plan.start.as_ptr().add(column);
        each_row::<V>(packed, weights, (count, panel), start, outputs, |at, sums| {
            let residual = match output.residual.is_null() {
                true => None,
                false => Some(output.residual.add(begin + at)),
            };
            finish.store(sums, output.out.add(begin + at), residual);
        });
    }
}

/// Multiplies packed rows with one panel of `V` vectors. `store` gets the sums of every row, and how many elements
/// from the first row they belong, rows being `stride` elements apart; those of the last row more than once
/// where rows are not a multiple of four.
///
/// # Safety
/// The dot product is enabled; `count` rows are packed; the panel has `V` vectors; `start` is readable for as many.
#[inline(always)]
unsafe fn each_row<const V: usize>(
    packed: *const int8x16_t,
    weights: &PackedWeights,
    (count, panel): (usize, usize),
    start: *const i32,
    stride: usize,
    store: impl Fn(usize, [int32x4_t; V]),
) {
    let tile_vectors = weights.inputs_padded.div_ceil(INPUTS) * ROWS;
    let column = panel * weights.layout.panel_columns();
    let (mut packed, mut at, mut left) = (packed, 0, count);
    let mut rows = [0, stride, 2 * stride, 3 * stride];
    // SAFETY: as the caller promises.
    unsafe {
        let panel = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded).cast();
        while left > 0 {
            if left < ROWS {
                // The last row was packed again in place of those there are not, and is stored again.
                rows = rows.map(|row_at| row_at.min((left - 1) * stride));
            }
            let sums = multiply::<V>(packed, panel, weights.inputs_padded / 4, start);
            unrolled!(4, |r| { store(at + rows[r], sums[r]) });
            packed = packed.add(tile_vectors);
            at += ROWS * stride;
            left = left.saturating_sub(ROWS);
        }
    }
}
