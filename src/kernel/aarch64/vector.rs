//! Lanes of 32 bits: the same on all aarch64 machines.

use super::Lanes;
use crate::kernel::simd::Vector;
use std::arch::aarch64::*;

// SAFETY of the blocks below: NEON is part of every aarch64 processor, so that the intrinsics are
// always allowed; where a method takes a pointer, its caller promises that it is good for the
// elements named by the trait, and exactly those are touched.

impl<P: Copy> Vector for Lanes<P> {
    const LANES: usize = 4;
    const PRODUCT_VECTORS: usize = 4;
    type F = float32x4_t;
    type I = int32x4_t;
    type ByteRange = (uint8x16_t, uint8x16_t);

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: the caller promises four readable floats.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, count: usize) -> float32x4_t {
        // SAFETY: only the `count` elements that the caller promises are read.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(p, zero),
                2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
                3 => {
                    let pair = vcombine_f32(vld1_f32(p), vdup_n_f32(0.0));
                    vld1q_lane_f32::<2>(p.add(2), pair)
                }
                _ => vld1q_f32(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: the caller promises four writable floats.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: float32x4_t, count: usize) {
        // SAFETY: only the `count` elements that the caller promises are written.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(p, v),
                2 => vst1_f32(p, vget_low_f32(v)),
                3 => {
                    vst1_f32(p, vget_low_f32(v));
                    vst1q_lane_f32::<2>(p.add(2), v);
                }
                _ => vst1q_f32(p, v),
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    unsafe fn abs(a: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vabsq_f32(a) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: float32x4_t) -> f32 {
        // SAFETY: NEON is always there.
        unsafe { vaddvq_f32(a) }
    }
    #[inline(always)]
    unsafe fn smallest(a: float32x4_t) -> f32 {
        // SAFETY: NEON is always there.
        unsafe { vminvq_f32(a) }
    }
    #[inline(always)]
    unsafe fn largest(a: float32x4_t) -> f32 {
        // SAFETY: NEON is always there.
        unsafe { vmaxvq_f32(a) }
    }

    #[inline(always)]
    unsafe fn splat_i(x: i32) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vdupq_n_s32(x) }
    }
    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> int32x4_t {
        // SAFETY: the caller promises four readable integers.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn store_i(p: *mut i32, v: int32x4_t) {
        // SAFETY: the caller promises four writable integers.
        unsafe { vst1q_s32(p, v) }
    }
    #[inline(always)]
    unsafe fn add_i(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_i(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vmulq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn sum_four_i([a, b, c, d]: [int32x4_t; 4]) -> [i32; 4] {
        let mut sums = [0; 4];
        // SAFETY: the array has room for the four sums.
        unsafe { vst1q_s32(sums.as_mut_ptr(), vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))) };
        sums
    }
    #[inline(always)]
    unsafe fn bits_to_int(a: float32x4_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vreinterpretq_s32_f32(a) }
    }
    #[inline(always)]
    unsafe fn to_float(a: int32x4_t) -> float32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vcvtq_f32_s32(a) }
    }
    #[inline(always)]
    unsafe fn to_int(a: float32x4_t) -> int32x4_t {
        // SAFETY: NEON is always there.
        unsafe { vcvtnq_s32_f32(a) }
    }

    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> int32x4_t {
        // SAFETY: the caller promises four readable bytes.
        unsafe { widen(p.cast::<u32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_u8_part(p: *const u8, count: usize) -> int32x4_t {
        if count >= 4 {
            // SAFETY: the caller promises four readable bytes.
            return unsafe { Self::load_u8(p) };
        }
        let mut bytes = 0;
        for i in 0..count {
            // SAFETY: only the `count` bytes that the caller promises are read.
            bytes |= u32::from(unsafe { *p.add(i) }) << (8 * i);
        }
        // SAFETY: NEON is always there.
        unsafe { widen(bytes) }
    }
    #[inline(always)]
    unsafe fn byte_range(low: u8, high: u8) -> (uint8x16_t, uint8x16_t) {
        // SAFETY: NEON is always there.
        unsafe { (vdupq_n_u8(low), vdupq_n_u8(high)) }
    }
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: int32x4_t, range: (uint8x16_t, uint8x16_t)) {
        // SAFETY: the caller promises four writable bytes.
        unsafe { p.cast::<u32>().write_unaligned(narrow(v, range)) }
    }
    #[inline(always)]
    unsafe fn store_u8_part(
        p: *mut u8,
        v: int32x4_t,
        range: (uint8x16_t, uint8x16_t),
        count: usize,
    ) {
        // SAFETY: only the `count` bytes that the caller promises are written.
        unsafe {
            if count >= 4 {
                return Self::store_u8(p, v, range);
            }
            let bytes = narrow(v, range).to_le_bytes();
            for (i, byte) in bytes.into_iter().enumerate().take(count) {
                *p.add(i) = byte;
            }
        }
    }
    #[inline(always)]
    unsafe fn store_u8_four(p: *mut u8, v: [int32x4_t; 4], range: (uint8x16_t, uint8x16_t)) {
        // SAFETY: the caller promises 16 writable bytes.
        unsafe { vst1q_u8(p, narrow_four(v, range)) }
    }
    #[inline(always)]
    unsafe fn store_u8_rows(
        p: *mut u8,
        stride: usize,
        v: [int32x4_t; 4],
        range: (uint8x16_t, uint8x16_t),
    ) {
        // SAFETY: the caller promises four writable bytes in each place.
        unsafe {
            let bytes = vreinterpretq_u32_u8(narrow_four(v, range));
            p.cast::<u32>().write_unaligned(vgetq_lane_u32::<0>(bytes));
            p.add(stride).cast::<u32>().write_unaligned(vgetq_lane_u32::<1>(bytes));
            p.add(2 * stride).cast::<u32>().write_unaligned(vgetq_lane_u32::<2>(bytes));
            p.add(3 * stride).cast::<u32>().write_unaligned(vgetq_lane_u32::<3>(bytes));
        }
    }
}

/// Sixteen lanes to bytes, clamped to a range.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn narrow_four(
    [a, b, c, d]: [int32x4_t; 4],
    (lowest, highest): (uint8x16_t, uint8x16_t),
) -> uint8x16_t {
    // SAFETY: NEON is always there.
    unsafe {
        let low = vqmovun_high_s32(vqmovun_s32(a), b);
        let high = vqmovun_high_s32(vqmovun_s32(c), d);
        let bytes = vqmovn_high_u16(vqmovn_u16(low), high);
        vminq_u8(vmaxq_u8(bytes, lowest), highest)
    }
}

/// Four bytes to four lanes.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn widen(bytes: u32) -> int32x4_t {
    // SAFETY: NEON is always there.
    unsafe {
        let halves = vmovl_u8(vcreate_u8(u64::from(bytes)));
        vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(halves)))
    }
}

/// Four lanes to four bytes, clamped to a range.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn narrow(v: int32x4_t, (low, high): (uint8x16_t, uint8x16_t)) -> u32 {
    // SAFETY: NEON is always there.
    unsafe {
        let halves = vqmovun_s32(v);
        let bytes = vqmovn_u16(vcombine_u16(halves, halves));
        let bytes = vmin_u8(vmax_u8(bytes, vget_low_u8(low)), vget_low_u8(high));
        vget_lane_u32::<0>(vreinterpret_u32_u8(bytes))
    }
}
