//! The aarch64 machines: NEON alone, with the dot product, with the 8-bit matrix product.
//!
//! They share their 32-bit lanes ([`vector`]) and differ in how they multiply bytes. Their vector
//! instructions take two signed operands (only i8mm has mixed ones), so the first two turn an
//! activation `a` in 0..=255 into `a - 128`, which is one exclusive-or with `0x80`, and declare an
//! offset of 128: the sums of the weights put it right, exactly.

pub(crate) mod depthwise;
pub(crate) mod depthwise_dot;
mod dot_product;
mod matrix_product;
mod multiply_long;
pub(crate) mod packed_rows;
mod packed_tile;
mod requantise;
mod vector;

use std::marker::PhantomData;

/// 128-bit vectors, with the byte products of `P`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes<P>(PhantomData<P>);

/// Products by widening multiplication: every aarch64 processor has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MultiplyLong;

/// Products by `sdot`: four in every 32-bit lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DotProduct;

/// Products by `usmmla`: eight in every 32-bit lane, of two rows and two output channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatrixProduct;

/// aarch64 with plain NEON, as on a Cortex-A53 or A72.
pub(crate) type Neon = Lanes<MultiplyLong>;
/// aarch64 with the dot product, as on a Cortex-A76.
pub(crate) type NeonDot = Lanes<DotProduct>;
/// aarch64 with the 8-bit matrix product (i8mm), as on a Neoverse V1 or a Cortex-X2.
pub(crate) type NeonI8mm = Lanes<MatrixProduct>;

/// The first `count` of 16 bytes, the rest zero.
///
/// # Safety
/// `p` is readable for `count` bytes.
#[inline(always)]
unsafe fn load_bytes_part(p: *const i8, count: usize) -> std::arch::aarch64::int8x16_t {
    use std::arch::aarch64::*;
    // SAFETY: the copy has room for 16 bytes; only `count` are read, as the caller promises.
    unsafe {
        if count >= 16 {
            return vld1q_s8(p);
        }
        let mut copy = [0; 16];
        std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), count);
        vld1q_s8(copy.as_ptr())
    }
}

/// A 16 × 4 transposition: bytes of four rows, so that each 32-bit lane holds one column.
///
/// # Safety
/// Every row is readable for 16 bytes.
#[inline(always)]
unsafe fn interleave_rows(rows: [*const u8; 4]) -> [std::arch::aarch64::uint8x16_t; 4] {
    use std::arch::aarch64::*;
    // SAFETY: NEON is part of every aarch64 processor; the caller promises the 16 bytes.
    unsafe {
        let [a, b, c, d] = rows.map(|row| vld1q_u8(row));
        let (ab_low, ab_high) = (vzip1q_u8(a, b), vzip2q_u8(a, b));
        let (cd_low, cd_high) = (vzip1q_u8(c, d), vzip2q_u8(c, d));
        let zip = |ab, cd| {
            let (ab, cd) = (vreinterpretq_u16_u8(ab), vreinterpretq_u16_u8(cd));
            (vreinterpretq_u8_u16(vzip1q_u16(ab, cd)), vreinterpretq_u8_u16(vzip2q_u16(ab, cd)))
        };
        let ((first, second), (third, fourth)) = (zip(ab_low, cd_low), zip(ab_high, cd_high));
        [first, second, third, fourth]
    }
}
