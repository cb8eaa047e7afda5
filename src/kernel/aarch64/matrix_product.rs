//! Byte products by `usmmla`, a product of 2 × 8 unsigned with 8 × 2 signed bytes, and `usdot`.
//!
//! The intrinsics are not in stable Rust yet; the instructions are.

use super::{Lanes, MatrixProduct, interleave_rows, load_bytes_part};
use crate::kernel::simd::Dot;
use std::arch::aarch64::*;
use std::arch::asm;

/// `sum` plus the products of four bytes in every lane.
///
/// # Safety
/// The processor has the 8-bit matrix product, and its instructions are enabled.
#[inline(always)]
unsafe fn usdot(mut sum: int32x4_t, a: uint8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "usdot {sum:v}.4s, {a:v}.16b, {w:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds the products of two rows of eight activations with two output channels of eight weights:
/// lanes are (row 0, channel 0), (row 0, channel 1), (row 1, channel 0), (row 1, channel 1).
///
/// # Safety
/// As for [`usdot`].
#[inline(always)]
unsafe fn usmmla(mut sum: int32x4_t, a: uint8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "usmmla {sum:v}.4s, {a:v}.16b, {w:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Pairs of rows in the largest tile that any machine has.
const MOST_PAIRS: usize = 7;

/// The low and the high halves of two vectors.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn halves(x: uint8x16_t, y: uint8x16_t) -> [uint8x16_t; 2] {
    // SAFETY: NEON is always there.
    unsafe {
        let (x, y) = (vreinterpretq_u64_u8(x), vreinterpretq_u64_u8(y));
        [vreinterpretq_u8_u64(vzip1q_u64(x, y)), vreinterpretq_u8_u64(vzip2q_u64(x, y))]
    }
}

impl Dot for Lanes<MatrixProduct> {
    const K_GROUP: usize = 8;
    const PANEL_VECTORS: usize = 2;
    const TILE_ROWS: [usize; 4] = [8, 8, 4, 4];
    const OFFSET: i32 = 0;
    type Activations = uint8x16_t;
    type Weights = int8x16_t;

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> uint8x16_t {
        // SAFETY: the caller promises four readable bytes.
        unsafe { vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller promises 16 readable weights.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> uint8x16_t {
        // SAFETY: the caller promises 16 readable bytes.
        unsafe { veorq_u8(vreinterpretq_u8_s8(vld1q_s8(p)), vdupq_n_u8(0x80)) }
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> uint8x16_t {
        // SAFETY: the caller promises `count` readable bytes.
        unsafe {
            let bytes = vreinterpretq_u8_s8(load_bytes_part(p, count));
            veorq_u8(bytes, vdupq_n_u8(0x80))
        }
    }
    #[inline(always)]
    unsafe fn dot(accumulator: int32x4_t, a: uint8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: the caller has enabled the instructions.
        unsafe { usdot(accumulator, a, w) }
    }

    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [uint8x16_t; 4] {
        // SAFETY: the caller promises 16 readable bytes a row.
        unsafe { interleave_rows(rows) }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const V: usize>(
        rows: *const u8,
        stride: usize,
        panel: *const i8,
        groups: usize,
        accumulators: &mut [[int32x4_t; V]; R],
    ) {
        const { assert!(R <= 2 * MOST_PAIRS) };
        // SAFETY: rows are read up to `groups * 8` bytes and the panel up to `groups * 32 * V`, as
        // the caller promises. An odd last row is its own partner.
        unsafe {
            let pairs = R.div_ceil(2);
            let partner = |pair: usize| (2 * pair + 1).min(R - 1);
            let mut sums = [[[vdupq_n_s32(0); 2]; V]; MOST_PAIRS];
            let mut panel = panel;
            for block in 0..groups / 2 {
                let mut a = [[vdupq_n_u8(0); 2]; MOST_PAIRS];
                for (pair, a) in a.iter_mut().enumerate().take(pairs) {
                    let first = rows.add(2 * pair * stride + block * 16);
                    let second = rows.add(partner(pair) * stride + block * 16);
                    *a = halves(vld1q_u8(first), vld1q_u8(second));
                }
                step::<0, V>(&mut sums, &a, pairs, panel);
                step::<1, V>(&mut sums, &a, pairs, panel.add(32 * V));
                panel = panel.add(64 * V);
            }
            if groups % 2 == 1 {
                let mut a = [[vdupq_n_u8(0); 2]; MOST_PAIRS];
                for (pair, a) in a.iter_mut().enumerate().take(pairs) {
                    let first = vld1_u8(rows.add(2 * pair * stride + (groups - 1) * 8));
                    let second = vld1_u8(rows.add(partner(pair) * stride + (groups - 1) * 8));
                    a[0] = vcombine_u8(first, second);
                }
                step::<0, V>(&mut sums, &a, pairs, panel);
            }
            for r in 0..R {
                for v in 0..V {
                    let [low, high] = sums[r / 2][v].map(|sum| vreinterpretq_s64_s32(sum));
                    let row =
                        if r % 2 == 0 { vzip1q_s64(low, high) } else { vzip2q_s64(low, high) };
                    accumulators[r][v] = vaddq_s32(accumulators[r][v], vreinterpretq_s32_s64(row));
                }
            }
        }
    }
}

/// One group of eight inputs: half `HALF` of every pair of rows with every pair of channels.
///
/// # Safety
/// The instructions are enabled; the panel is readable for `32 * V` bytes.
#[inline(always)]
unsafe fn step<const HALF: usize, const V: usize>(
    sums: &mut [[[int32x4_t; 2]; V]; MOST_PAIRS],
    a: &[[uint8x16_t; 2]; MOST_PAIRS],
    pairs: usize,
    panel: *const i8,
) {
    for v in 0..V {
        for channels in 0..2 {
            // SAFETY: as the caller promises.
            unsafe {
                let w = vld1q_s8(panel.add((2 * v + channels) * 16));
                for pair in 0..pairs {
                    let sum = &mut sums[pair][v][channels];
                    *sum = usmmla(*sum, a[pair][HALF], w);
                }
            }
        }
    }
}
