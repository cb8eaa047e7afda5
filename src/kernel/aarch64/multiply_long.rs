//! Byte products by widening multiplication, for processors without a dot product.
//!
//! `smull` and `smlal2` add two products in a 16-bit lane, and `sadalp` adds neighbouring lanes to
//! 32 bits: three instructions for sixteen products, of which a Cortex-A72 can finish eight a cycle.
//! Two products fit 16 bits: |a| ≤ 128 and |w| ≤ 127, so the sum is at most 32512.

use super::{Lanes, MultiplyLong, interleave_rows, load_bytes_part};
use crate::kernel::simd::Dot;
use std::arch::aarch64::*;

/// `a - 128` for bytes.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
pub(super) unsafe fn to_signed(a: uint8x16_t) -> int8x16_t {
    // SAFETY: NEON is always there.
    unsafe { vreinterpretq_s8_u8(veorq_u8(a, vdupq_n_u8(0x80))) }
}

impl Dot for Lanes<MultiplyLong> {
    const K_GROUP: usize = 16;
    const PANEL_VECTORS: usize = 4;
    const TILE_ROWS: [usize; 4] = [4; 4];
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
        // SAFETY: NEON is always there.
        unsafe {
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
            let high = vmull_high_s8(a, w);
            vpadalq_s16(accumulator, vpaddq_s16(low, high))
        }
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
        // SAFETY: rows are read up to `groups * 16` bytes and the panel up to `groups * 16 * 4 * V`,
        // as the caller promises.
        unsafe {
            for v in 0..V {
                // A vector of four partial sums for every row and output channel: 4 × 4 of them fill
                // half the registers, so that the vectors of a panel take turns. The first group
                // starts them, so that they need not be zeroed.
                let mut partial = [[vdupq_n_s32(0); 4]; R];
                if groups > 0 {
                    for_products::<R>(rows, stride, panel.add(v * 64), |r, channel, products| {
                        partial[r][channel] = vpaddlq_s16(products);
                    });
                }
                for group in 1..groups {
                    let panel = panel.add((group * V + v) * 64);
                    for_products::<R>(
                        rows.add(group * 16),
                        stride,
                        panel,
                        |r, channel, products| {
                            partial[r][channel] = vpadalq_s16(partial[r][channel], products);
                        },
                    );
                }
                for r in 0..R {
                    let [a, b, c, d] = partial[r];
                    let sum = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
                    accumulators[r][v] = vaddq_s32(accumulators[r][v], sum);
                }
            }
        }
    }
}

/// Sixteen products, two in each 16-bit lane, of every one of `R` rows with each of four output channels,
/// handed to `add` with row and channel.
///
/// # Safety
/// Rows start `stride` bytes apart and are readable for 16 bytes, `weights` for 64.
#[inline(always)]
unsafe fn for_products<const R: usize>(
    rows: *const u8,
    stride: usize,
    weights: *const i8,
    mut add: impl FnMut(usize, usize, int16x8_t),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut a = [vdupq_n_s8(0); R];
        for (r, a) in a.iter_mut().enumerate() {
            *a = to_signed(vld1q_u8(rows.add(r * stride)));
        }
        for channel in 0..4 {
            let w = vld1q_s8(weights.add(channel * 16));
            for (r, &a) in a.iter().enumerate() {
                let products = vmull_s8(vget_low_s8(a), vget_low_s8(w));
                add(r, channel, vmlal_high_s8(products, a, w));
            }
        }
    }
}
