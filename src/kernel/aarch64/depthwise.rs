//! Depthwise convolution by widening multiplication, sixteen channels at a time.
//!
//! A dot product adds neighbouring bytes, so that the depthwise kernels made for it first interleave rows
//! ([`crate::kernel::depthwise_rows`]). A plain multiplication needs no such order: `smull` and `smlal`
//! add two taps of eight channels in 16-bit lanes (|a| ≤ 128 and |w| ≤ 127, so at most 32512), and
//! `saddw` adds them to 32 bits. Rows are copied once, with the padding around them, as signed bytes; a
//! column loaded from there serves every pixel that looks at it.

use std::arch::aarch64::*;
use std::ops::Range;

use super::Neon;
use super::multiply_long::to_signed;
use crate::kernel::Depthwise;
use crate::kernel::depthwise_direct::{CHANNELS, group_start, rows_together};
use crate::kernel::depthwise_output::{Output, sums_to_floats};
use crate::kernel::depthwise_rows::Job;
use crate::kernel::simd::{Dot, Vector, unrolled};

/// Neighbouring pixels computed together: 4 × 16 sums fill half the registers.
const PIXELS: usize = 4;

/// Computes a job of a layer that suits, see [`crate::kernel::depthwise_direct`].
///
/// # Safety
/// The band holds all input rows under `rows`; the output holds those rows; the scratch memory is
/// as large as `scratch_bytes` says.
pub(crate) unsafe fn run(job: &mut Job<'_>, rows: Range<usize>, output: Output<'_>) {
    let pixels = rows.len() * job.width;
    // SAFETY: as the caller promises.
    unsafe {
        match (job.layer.window.kernel[0], job.layer.window.stride[0]) {
            (3, 1) => run_as::<3, 1>(job, rows, output),
            (3, 2) => run_as::<3, 2>(job, rows, output),
            (5, 1) => run_as::<5, 1>(job, rows, output),
            (5, 2) => run_as::<5, 2>(job, rows, output),
            _ => unreachable!("such a layer does not suit"),
        }
        if let Output::Floats { quantisation, activation, out } = output {
            sums_to_floats::<Neon>(job.layer, quantisation, activation, out, pixels);
        }
    }
}

/// [`run`] of a `K` × `K` kernel with stride `S`.
///
/// # Safety
/// As for [`run`].
unsafe fn run_as<const K: usize, const S: usize>(
    job: &mut Job<'_>,
    rows: Range<usize>,
    output: Output<'_>,
) {
    let Depthwise { channels, window, .. } = *job.layer;
    let together = rows_together(window, job.columns, rows.len());
    for first_row in rows.clone().step_by(together) {
        let block = first_row..(first_row + together).min(rows.end);
        for group in 0..channels.div_ceil(CHANNELS) {
            let channel = group_start(group, channels);
            // SAFETY: sixteen channels from this one on exist; the block lies within `rows`.
            unsafe {
                copy_rows(job, block.start * S, (block.len() - 1) * S + K, channel);
                let weights = job.layer.weights.as_slice().as_ptr().add(group * K * K * CHANNELS);
                let finish = Finish::new(job.layer, output, channel);
                for y in block.clone() {
                    let copied = job.interleaved.as_ptr();
                    let copied = copied.add((y - block.start) * S * job.columns * CHANNELS);
                    let at = (y - rows.start) * job.width * channels + channel;
                    row::<K, S>(job, copied.cast(), weights.cast(), &finish, at);
                }
            }
        }
    }
}

/// Copies sixteen channels of `count` input rows from `top` on (counted with the padding), as signed bytes.
///
/// # Safety
/// Those of the rows that are in the picture are at hand; so are the channels; the scratch memory
/// has room for the rows.
unsafe fn copy_rows(job: &mut Job<'_>, top: usize, count: usize, channel: usize) {
    let Depthwise { channels, window, .. } = *job.layer;
    let width = job.input.width;
    let left = window.before[1].min(job.columns);
    let inside = width.min(job.columns - left);
    debug_assert!(count * job.columns * CHANNELS <= job.interleaved.len());
    // SAFETY: as the caller promises; columns outside the picture are filled with padding.
    unsafe {
        let padding = to_signed(vld1q_u8(job.padding.as_ptr()));
        for r in 0..count {
            let to = job.interleaved.as_mut_ptr().cast::<i8>().add(r * job.columns * CHANNELS);
            let iy = (top + r).wrapping_sub(window.before[0]);
            let inside = if iy < job.input.height { inside } else { 0 };
            for x in (0..left).chain(left + inside..job.columns) {
                vst1q_s8(to.add(x * CHANNELS), padding);
            }
            if inside > 0 {
                let row = (iy - job.input.first_row) * width * channels + channel;
                let from = job.input.data.as_ptr().add(row);
                let to = to.add(left * CHANNELS);
                for x in 0..inside {
                    vst1q_s8(to.add(x * CHANNELS), to_signed(vld1q_u8(from.add(x * channels))));
                }
            }
        }
    }
}

/// What sums start from, and what becomes of them.
struct Finish<'a> {
    start: [int32x4_t; 4],
    multipliers: [float32x4_t; 4],
    addends: [float32x4_t; 4],
    output: Output<'a>,
}

impl<'a> Finish<'a> {
    /// # Safety
    /// Sixteen channels from this one on exist.
    unsafe fn new(layer: &Depthwise, output: Output<'a>, channel: usize) -> Self {
        // SAFETY: NEON is always there; the arrays have an element for every channel.
        unsafe {
            let integers = |values: &[i32]| {
                let p = values[channel..channel + CHANNELS].as_ptr();
                std::array::from_fn(|i| vld1q_s32(p.add(i * 4)))
            };
            let floats = |values: &[f32]| {
                let p = values[channel..channel + CHANNELS].as_ptr();
                std::array::from_fn(|i| vld1q_f32(p.add(i * 4)))
            };
            let zero = [vdupq_n_f32(0.0); 4];
            let (start, multipliers, addends) = match output {
                Output::Bytes { plan, .. } => {
                    (integers(&plan.start), floats(&plan.multipliers), floats(&plan.addends))
                }
                Output::Floats { quantisation, .. } => {
                    let factor =
                        vdupq_n_s32(<Neon as Dot>::OFFSET - i32::from(quantisation.zero_point));
                    let sums: [int32x4_t; 4] = integers(&layer.sums);
                    (sums.map(|sum| vmulq_s32(sum, factor)), zero, zero)
                }
            };
            Self { start, multipliers, addends, output }
        }
    }

    /// Stores the sums of sixteen channels of a pixel: bytes, or for now the sums in the place of floats.
    ///
    /// # Safety
    /// The output holds sixteen elements from `at` on.
    #[inline(always)]
    unsafe fn store(&self, sums: [int32x4_t; 4], at: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.output {
                Output::Bytes { plan, out } => {
                    let [a, b, c, d] = sums;
                    let round = |sum, i: usize| {
                        vcvtnq_s32_f32(vfmaq_f32(
                            self.addends[i],
                            vcvtq_f32_s32(sum),
                            self.multipliers[i],
                        ))
                    };
                    let rounded = [round(a, 0), round(b, 1), round(c, 2), round(d, 3)];
                    let range = <Neon as Vector>::byte_range(plan.low, plan.high);
                    <Neon as Vector>::store_u8_four(out.add(at), rounded, range);
                }
                Output::Floats { out, .. } => {
                    let out = out.add(at).cast::<i32>();
                    unrolled!(4, |i| { vst1q_s32(out.add(i * 4), sums[i]) });
                }
            }
        }
    }
}

/// Computes a row of output in sixteen channels.
///
/// # Safety
/// `copied` holds the rows under it, `weights` the group's weights; the output holds the row from
/// element `at` on.
#[inline(always)]
unsafe fn row<const K: usize, const S: usize>(
    job: &Job<'_>,
    copied: *const i8,
    weights: *const i8,
    finish: &Finish<'_>,
    at: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut x = 0;
        while x + PIXELS <= job.width {
            let copied = copied.add(x * S * CHANNELS);
            let sums = pixels::<K, S, PIXELS>(copied, job.columns, weights, finish.start);
            unrolled!(PIXELS, |pixel| {
                finish.store(sums[pixel], at + (x + pixel) * job.layer.channels);
            });
            x += PIXELS;
        }
        while x < job.width {
            let copied = copied.add(x * S * CHANNELS);
            let [sums] = pixels::<K, S, 1>(copied, job.columns, weights, finish.start);
            finish.store(sums, at + x * job.layer.channels);
            x += 1;
        }
    }
}

/// The sums of `P` neighbouring pixels in sixteen channels.
///
/// Kernel rows are taken in pairs, one above the other; the last row's taps in pairs side by side.
///
/// # Safety
/// `copied` is readable for `K` rows, `columns` apart, of `(P - 1) * S + K` columns; `weights` for
/// `K * K` taps.
#[inline(always)]
unsafe fn pixels<const K: usize, const S: usize, const P: usize>(
    copied: *const i8,
    columns: usize,
    weights: *const i8,
    start: [int32x4_t; 4],
) -> [[int32x4_t; 4]; P] {
    // SAFETY: as the caller promises.
    unsafe {
        let tap = |ky: usize, kx: usize| vld1q_s8(weights.add((ky * K + kx) * CHANNELS));
        let mut sums = [start; P];
        unrolled!(K / 2, |pair| {
            let upper = copied.add(pair * 2 * columns * CHANNELS);
            let lower = upper.add(columns * CHANNELS);
            unrolled!((P - 1) * S + K, |column| {
                let above = vld1q_s8(upper.add(column * CHANNELS));
                let below = vld1q_s8(lower.add(column * CHANNELS));
                unrolled!(P, |pixel| {
                    if column >= pixel * S && column - pixel * S < K {
                        let kx = column - pixel * S;
                        let taps = [tap(pair * 2, kx), tap(pair * 2 + 1, kx)];
                        sums[pixel] = add_two(sums[pixel], [above, below], taps);
                    }
                });
            });
        });
        let last = copied.add((K - 1) * columns * CHANNELS);
        let at = |pixel: usize, kx: usize| vld1q_s8(last.add((pixel * S + kx) * CHANNELS));
        unrolled!(K / 2, |pair| {
            let taps = [tap(K - 1, pair * 2), tap(K - 1, pair * 2 + 1)];
            unrolled!(P, |pixel| {
                let two = [at(pixel, pair * 2), at(pixel, pair * 2 + 1)];
                sums[pixel] = add_two(sums[pixel], two, taps);
            });
        });
        unrolled!(P, |pixel| {
            sums[pixel] = add_one(sums[pixel], at(pixel, K - 1), tap(K - 1, K - 1));
        });
        sums
    }
}

/// `sums` plus the products of two activations with two weights in each of sixteen channels.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has. No weight is -128.
#[inline(always)]
unsafe fn add_two(sums: [int32x4_t; 4], a: [int8x16_t; 2], w: [int8x16_t; 2]) -> [int32x4_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        let low = vmull_s8(vget_low_s8(a[0]), vget_low_s8(w[0]));
        let low = vmlal_s8(low, vget_low_s8(a[1]), vget_low_s8(w[1]));
        let high = vmlal_high_s8(vmull_high_s8(a[0], w[0]), a[1], w[1]);
        widen_and_add(sums, low, high)
    }
}

/// `sums` plus the products of an activation with a weight in each of sixteen channels.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn add_one(sums: [int32x4_t; 4], a: int8x16_t, w: int8x16_t) -> [int32x4_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        let low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
        widen_and_add(sums, low, vmull_high_s8(a, w))
    }
}

/// `sums` plus sixteen 16-bit numbers.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn widen_and_add(
    [a, b, c, d]: [int32x4_t; 4],
    low: int16x8_t,
    high: int16x8_t,
) -> [int32x4_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        [
            vaddw_s16(a, vget_low_s16(low)),
            vaddw_high_s16(b, low),
            vaddw_s16(c, vget_low_s16(high)),
            vaddw_high_s16(d, high),
        ]
    }
}
