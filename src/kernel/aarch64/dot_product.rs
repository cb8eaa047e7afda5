//! Byte products by `sdot`.
//!
//! The intrinsics for it are not in stable Rust yet; the instruction is.

use super::multiply_long::to_signed;
use super::{DotProduct, Lanes, interleave_rows, load_bytes_part};
use crate::kernel::simd::Dot;
use std::arch::aarch64::*;
use std::arch::asm;

/// `sum` plus the products of four bytes in every lane.
///
/// # Safety
/// The processor has the dot product, and its instructions are enabled.
#[inline(always)]
unsafe fn sdot(mut sum: int32x4_t, a: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {w:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` plus the products of a lane's four weights with four activations, those of lane `LANE`.
///
/// # Safety
/// As for [`sdot`].
#[inline(always)]
unsafe fn sdot_lane<const LANE: usize>(
    mut sum: int32x4_t,
    a: int8x16_t,
    w: int8x16_t,
) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            w = in(vreg) w,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl Dot for Lanes<DotProduct> {
    const K_GROUP: usize = 4;
    const PANEL_VECTORS: usize = 4;
    const TILE_ROWS: [usize; 4] = [8, 8, 4, 4];
    const OFFSET: i32 = 128;
    type Activations = int8x16_t;
    type Weights = int8x16_t;

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> int8x16_t {
        // SAFETY: the caller promises four readable bytes.
        unsafe { to_signed(vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned()))) }
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller promises 16 readable weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> int8x16_t {
        // SAFETY: the caller promises 16 readable bytes. They are `s + 128 - OFFSET` as they lie.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> int8x16_t {
        // SAFETY: the caller promises `count` readable bytes.
        unsafe { load_bytes_part(p, count) }
    }
    #[inline(always)]
    unsafe fn dot(accumulator: int32x4_t, a: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: the caller has enabled the dot product.
        unsafe { sdot(accumulator, a, w) }
    }

    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [int8x16_t; 4] {
        // SAFETY: the caller promises 16 readable bytes a row.
        unsafe { interleave_rows(rows).map(|v| to_signed(v)) }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const V: usize>(
        rows: *const u8,
        stride: usize,
        panel: *const i8,
        groups: usize,
        accumulators: &mut [[int32x4_t; V]; R],
    ) {
        // SAFETY: rows are read up to `groups * 4` bytes and the panel up to `groups * 16 * V`, as
        // the caller promises.
        unsafe {
            let mut sums = *accumulators;
            let mut panel = panel;
            // Sixteen activations of a row in one load: four groups.
            for block in 0..groups / 4 {
                let mut a = [vdupq_n_s8(0); R];
                for (r, a) in a.iter_mut().enumerate() {
                    *a = to_signed(vld1q_u8(rows.add(r * stride + block * 16)));
                }
                step::<0, R, V>(&mut sums, &a, panel);
                step::<1, R, V>(&mut sums, &a, panel.add(16 * V));
                step::<2, R, V>(&mut sums, &a, panel.add(32 * V));
                step::<3, R, V>(&mut sums, &a, panel.add(48 * V));
                panel = panel.add(64 * V);
            }
            for group in groups / 4 * 4..groups {
                let mut a = [vdupq_n_s8(0); R];
                for (r, a) in a.iter_mut().enumerate() {
                    *a = Self::broadcast_group(rows.add(r * stride + group * 4));
                }
                step::<0, R, V>(&mut sums, &a, panel);
                panel = panel.add(16 * V);
            }
            *accumulators = sums;
        }
    }
}

/// One group of inputs: every row's lane `LANE` with every vector of weights.
///
/// # Safety
/// The dot product is enabled; the panel is readable for `16 * V` bytes.
#[inline(always)]
pub(super) unsafe fn step<const LANE: usize, const R: usize, const V: usize>(
    sums: &mut [[int32x4_t; V]; R],
    a: &[int8x16_t; R],
    panel: *const i8,
) {
    for v in 0..V {
        // SAFETY: as the caller promises.
        unsafe {
            let w = vld1q_s8(panel.add(v * 16));
            for r in 0..R {
                sums[r][v] = sdot_lane::<LANE>(sums[r][v], a[r], w);
            }
        }
    }
}
