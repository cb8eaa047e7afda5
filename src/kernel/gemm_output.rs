//! What becomes of the accumulators of a tile: floats, or bytes again.

use super::activation::{apply, with_activation};
use super::pack::PackedWeights;
use super::simd::{Dot, load_some, store_some, unrolled};
use super::{Activation, Requantisation};

/// How accumulators become floats.
#[derive(Clone, Copy)]
pub(crate) struct FloatOutput<'a> {
    pub scales: &'a [f32],
    pub bias: &'a [f32],
    /// One scale and zero point per row, or (with `step` 0) one for all.
    pub row_scales: *const f32,
    pub row_zero_points: *const i32,
    pub step: usize,
    pub activation: Activation,
    /// Null for none.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub out: *mut f32,
    pub stride: usize,
}

/// How accumulators become bytes; `out` and `residual` are dense rows.
#[derive(Clone, Copy)]
pub(crate) struct ByteOutput<'a> {
    pub plan: &'a Requantisation,
    /// Null for none.
    pub residual: *const u8,
    pub out: *mut u8,
}

/// Accumulators of the largest tile: rows × vectors × lanes.
pub(super) const TILE: usize = 12 * 2 * 16;

/// Turns a tile's accumulators into floats and stores them.
///
/// # Safety
/// The output is writable for the tile's rows and columns; `sums` holds rows of `vectors` vectors.
#[inline(always)]
pub(super) unsafe fn finish<V: Dot>(
    weights: &PackedWeights,
    at: ((usize, usize), usize),
    sums: &[i32],
    vectors: usize,
    output: &FloatOutput<'_>,
) {
    with_activation!(output.activation, |activation| {
        // SAFETY: as the caller promises.
        unsafe { finish_as::<V>(weights, at, sums, vectors, output, activation) }
    });
}

/// [`finish`] with an activation that is a constant.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_as<V: Dot>(
    weights: &PackedWeights,
    ((first_row, panel), first_column): ((usize, usize), usize),
    sums: &[i32],
    vectors: usize,
    output: &FloatOutput<'_>,
    activation: Activation,
) {
    // SAFETY: the tile's rows and columns lie within what the caller vouches for.
    unsafe {
        let column = panel * weights.layout.panel_columns();
        let width = vectors * V::LANES;
        for r in 0..sums.len() / width {
            let row = first_row + r;
            let row_scale = V::splat(*output.row_scales.add(row * output.step));
            for n in (0..width).step_by(V::LANES) {
                let at = column + n;
                let count = (weights.outputs - at).min(V::LANES);
                let sum = V::load_i(sums.as_ptr().add(r * width + n));
                let scale = V::mul(row_scale, V::load(output.scales.as_ptr().add(at)));
                let bias = V::load(output.bias.as_ptr().add(at));
                let mut y = apply::<V>(activation, V::fma(V::to_float(sum), scale, bias));
                let at = at - first_column;
                if !output.residual.is_null() {
                    let p = output.residual.add(row * output.residual_stride + at);
                    y = V::add(y, load_some::<V>(p, count));
                }
                store_some::<V>(output.out.add(row * output.stride + at), y, count);
            }
        }
    }
}

/// Accumulators to integers that are only to be clamped.
///
/// # Safety
/// `plan` covers the tile's columns.
#[inline(always)]
pub(super) unsafe fn requantise<V: Dot, const R: usize, const N: usize>(
    plan: &Requantisation,
    column: usize,
    sums: &mut [[V::I; N]; R],
) {
    // SAFETY: as the caller promises.
    unsafe {
        unrolled!(N, |n| {
            let multiplier = V::load(plan.multipliers.as_ptr().add(column + n * V::LANES));
            let addend = V::load(plan.addends.as_ptr().add(column + n * V::LANES));
            unrolled!(R, |r| {
                sums[r][n] = V::to_int(V::fma(V::to_float(sums[r][n]), multiplier, addend));
            });
        });
    }
}

/// [`requantise`] with a residual, given as its address, the columns left and the row length.
///
/// # Safety
/// `plan` covers the tile's columns; the residual is readable for `R` rows of them.
#[inline(always)]
pub(super) unsafe fn requantise_with<V: Dot, const R: usize, const N: usize>(
    plan: &Requantisation,
    column: usize,
    sums: &mut [[V::I; N]; R],
    (residual, (columns, stride)): (*const u8, (usize, usize)),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let ratio = V::splat(plan.residual.unwrap_or(0.0));
        for n in 0..N {
            let multiplier = V::load(plan.multipliers.as_ptr().add(column + n * V::LANES));
            let addend = V::load(plan.addends.as_ptr().add(column + n * V::LANES));
            let count = columns.saturating_sub(n * V::LANES).min(V::LANES);
            for (r, row) in sums.iter_mut().enumerate() {
                let y = V::fma(V::to_float(row[n]), multiplier, addend);
                let p = residual.add(r * stride + n * V::LANES);
                let bytes =
                    if count == V::LANES { V::load_u8(p) } else { V::load_u8_part(p, count) };
                row[n] = V::to_int(V::fma(V::to_float(bytes), ratio, y));
            }
        }
    }
}

/// Clamps and stores a tile.
///
/// # Safety
/// `out` is writable for `R` rows, `stride` apart, of `columns` bytes or what the tile has.
#[inline(always)]
pub(super) unsafe fn store_bytes<V: Dot, const R: usize, const N: usize>(
    plan: &Requantisation,
    sums: &[[V::I; N]; R],
    out: *mut u8,
    (columns, stride): (usize, usize),
) {
    // SAFETY: as the caller promises; the buffer has room for the largest tile.
    unsafe {
        let range = V::byte_range(plan.low, plan.high);
        if N == 4 && columns >= N * V::LANES {
            unrolled!(R, |r| {
                let row = [sums[r][0], sums[r][1 % N], sums[r][2 % N], sums[r][3 % N]];
                V::store_u8_four(out.add(r * stride), row, range);
            });
            return;
        }
        // Four vectors are packed at once, whatever rows they belong to; the tile's rows then lie
        // one after another.
        let mut tile = [0u8; TILE];
        unrolled!((R * N).div_ceil(4), |group| {
            let pick = |i: usize| {
                let i = (group * 4 + i).min(R * N - 1);
                sums[i / N][i % N]
            };
            let four = [pick(0), pick(1), pick(2), pick(3)];
            V::store_u8_four(tile.as_mut_ptr().add(group * 4 * V::LANES), four, range);
        });
        for r in 0..R {
            let row = tile.as_ptr().add(r * N * V::LANES);
            if columns >= N * V::LANES {
                std::ptr::copy_nonoverlapping(row, out.add(r * stride), N * V::LANES);
            } else {
                std::ptr::copy_nonoverlapping(row, out.add(r * stride), columns);
            }
        }
    }
}
