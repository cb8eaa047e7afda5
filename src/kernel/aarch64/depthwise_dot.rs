//! Depthwise convolution by `sdot`, sixteen channels and three pixels at a time.
//!
//! Four rows of the picture are interleaved as for the general kernels ([`crate::kernel::depthwise_rows`]), so that a
//! lane holds the four pixels of a column in one channel. Sixteen channels of a column are 64 bytes,
//! which one `ld1` loads, as another loads their weights, and sixteen results are stored at once.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::NeonDot;
use super::multiply_long::to_signed;
use super::requantise::Finish;
use crate::kernel::Depthwise;
use crate::kernel::depthwise_direct::{CHANNELS, group_start};
use crate::kernel::depthwise_output::{Output, sums_to_floats};
use crate::kernel::depthwise_rows::Job;
use crate::kernel::simd::{Dot, unrolled};

/// Neighbouring pixels computed together: 3 × 16 sums, as many activations and sixteen weights fit the registers.
const PIXELS: usize = 3;
/// Bytes of sixteen channels of four interleaved rows.
const COLUMN: usize = 64;

/// Computes a job of a layer that suits, see [`crate::kernel::depthwise_direct`].
///
/// # Safety
/// The processor has the dot product; the band holds all input rows under `rows`; the output holds those rows; the
/// scratch memory has room for the columns under a row of output.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn run(job: &mut Job<'_>, rows: Range<usize>, output: Output<'_>) {
    let pixels = rows.len() * job.width;
    // SAFETY: as the caller promises.
    unsafe {
        let plain = matches!(output, Output::Bytes { plan, .. } if plan.takes_all_bytes());
        match (job.layer.window.kernel[0], job.layer.window.stride[0], plain) {
            (3, 1, true) => run_as::<1, 3, 1, true>(job, rows, output),
            (3, 2, true) => run_as::<1, 3, 2, true>(job, rows, output),
            (5, 1, true) => run_as::<2, 5, 1, true>(job, rows, output),
            (5, 2, true) => run_as::<2, 5, 2, true>(job, rows, output),
            (3, 1, false) => run_as::<1, 3, 1, false>(job, rows, output),
            (3, 2, false) => run_as::<1, 3, 2, false>(job, rows, output),
            (5, 1, false) => run_as::<2, 5, 1, false>(job, rows, output),
            (5, 2, false) => run_as::<2, 5, 2, false>(job, rows, output),
            _ => unreachable!("such a layer does not suit"),
        }
        if let Output::Floats { quantisation, activation, out } = output {
            sums_to_floats::<NeonDot>(job.layer, quantisation, activation, out, pixels);
        }
    }
}

/// [`run`] of a `K` × `K` kernel with stride `S` over `G` groups of four rows; if `PLAIN`, to all bytes.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn run_as<const G: usize, const K: usize, const S: usize, const PLAIN: bool>(
    job: &mut Job<'_>,
    rows: Range<usize>,
    output: Output<'_>,
) {
    let Depthwise { channels, shared_rows, .. } = *job.layer;
    let weights = job.layer.weights.as_slice().as_ptr().cast::<i8>();
    for y in rows.clone().step_by(shared_rows) {
        let together = shared_rows.min(rows.end - y);
        for group in 0..channels.div_ceil(CHANNELS) {
            let channel = group_start(group, channels);
            // SAFETY: sixteen channels from this one on exist; the rows lie within `rows`, and the layer has
            // weights for every group and shared row.
            unsafe {
                interleave_columns::<G, K, S>(job, y, together, channel);
                let start = start_of(job.layer, output, channel);
                for shared in 0..together {
                    let weights = weights.add((group * shared_rows + shared) * G * K * COLUMN);
                    let at = (y + shared - rows.start) * job.width * channels + channel;
                    match output {
                        Output::Bytes { plan, out } => {
                            let finish = Finish::<4, PLAIN>::new(plan, channel, CHANNELS);
                            let out = out.add(at);
                            let store = |sums, at| finish.store(sums, out.add(at), None);
                            row::<G, K, S>(job, weights, &start, store);
                        }
                        // The sums, in the place of floats for now.
                        Output::Floats { out, .. } => {
                            let out = out.add(at).cast::<i32>();
                            let store = |sums: [int32x4_t; 4], at| {
                                unrolled!(4, |i| { vst1q_s32(out.add(at + i * 4), sums[i]) });
                            };
                            row::<G, K, S>(job, weights, &start, store);
                        }
                    }
                }
            }
        }
    }
}

/// Interleaves the columns under output rows `y..y + together` in sixteen channels.
///
/// # Safety
/// As for [`run`]; the channels exist.
#[inline(always)]
unsafe fn interleave_columns<const G: usize, const K: usize, const S: usize>(
    job: &mut Job<'_>,
    y: usize,
    together: usize,
    channel: usize,
) {
    let Depthwise { channels, window, .. } = *job.layer;
    let (top, rows) = (y * S, (together - 1) * S + K);
    let width = job.input.width;
    let left = window.before[1].min(job.columns);
    let inside = width.min(job.columns - left);
    debug_assert!(job.columns * G * COLUMN <= job.interleaved.len());
    // SAFETY: pointers into the band are made only for rows that are inside the picture and, being under the
    // output rows, at hand; each of their columns has the sixteen channels.
    unsafe {
        let padding = job.padding.as_ptr();
        let store = |to: *mut i8, rows: [*const u8; 4]| {
            let [a, b, c, d] = rows.map(|row| to_signed(vld1q_u8(row)));
            // Stores the first byte of each, the second of each, and so on.
            vst4q_s8(to, int8x16x4_t(a, b, c, d));
        };
        for group in 0..G {
            let to = job.interleaved.as_mut_ptr().cast::<i8>().add(group * job.columns * COLUMN);
            // Rows that no weight meets may be any: the first one again, most often.
            let mut from = [padding; 4];
            let mut step = [0; 4];
            for r in 0..4 {
                let row = group * 4 + r;
                let iy = (top + row).wrapping_sub(window.before[0]);
                if row < rows && iy < job.input.height {
                    let at = (iy - job.input.first_row) * width * channels + channel;
                    from[r] = job.input.data.as_ptr().add(at);
                    step[r] = channels;
                } else if row >= rows {
                    (from[r], step[r]) = (from[0], step[0]);
                }
            }
            for x in (0..left).chain(left + inside..job.columns) {
                store(to.add(x * COLUMN), [padding; 4]);
            }
            let to = to.add(left * COLUMN);
            if step == [channels; 4] {
                // One distance for all rows.
                for x in 0..inside {
                    store(to.add(x * COLUMN), from.map(|row| row.add(x * channels)));
                }
            } else {
                for x in 0..inside {
                    let at = |r: usize| from[r].add(x * step[r]);
                    store(to.add(x * COLUMN), [at(0), at(1), at(2), at(3)]);
                }
            }
        }
    }
}

/// What the sums of sixteen channels start from.
#[inline(always)]
fn start_of(layer: &Depthwise, output: Output<'_>, channel: usize) -> [i32; CHANNELS] {
    let channels = channel..channel + CHANNELS;
    let mut start = [0; CHANNELS];
    match output {
        Output::Bytes { plan, .. } => start.copy_from_slice(&plan.start[channels]),
        Output::Floats { quantisation, .. } => {
            let factor = NeonDot::OFFSET - i32::from(quantisation.zero_point);
            for (start, &sum) in start.iter_mut().zip(&layer.sums[channels]) {
                *start = sum.wrapping_mul(factor);
            }
        }
    }
    start
}

/// Computes a row of output in sixteen channels. `store` gets the sums of each pixel, and how many elements from
/// the first pixel's they belong.
///
/// # Safety
/// The columns are interleaved; `weights` are the channels' for this row.
#[inline(always)]
unsafe fn row<const G: usize, const K: usize, const S: usize>(
    job: &Job<'_>,
    weights: *const i8,
    start: &[i32; CHANNELS],
    store: impl Fn([int32x4_t; 4], usize),
) {
    let step = job.layer.channels;
    let (mut left, mut at) = (job.width, 0);
    // SAFETY: as the caller promises.
    unsafe {
        let group = job.columns * COLUMN;
        let mut columns = job.interleaved.as_ptr().cast::<i8>();
        while left >= PIXELS {
            let sums = pixels::<G, K, S, PIXELS>(columns, group, weights, start);
            unrolled!(PIXELS, |pixel| { store(sums[pixel], at + pixel * step) });
            columns = columns.add(PIXELS * S * COLUMN);
            at += PIXELS * step;
            left -= PIXELS;
        }
        for _ in 0..left {
            let [sums] = pixels::<G, K, S, 1>(columns, group, weights, start);
            store(sums, at);
            columns = columns.add(S * COLUMN);
            at += step;
        }
    }
}

/// The sums of `P` neighbouring pixels in sixteen channels. `columns` is the first column of the first group of
/// rows, the others' follow `group` bytes apart.
///
/// # Safety
/// `(P - 1) * S + K` columns are interleaved in each group; `weights` hold `G * K` columns.
#[inline(always)]
unsafe fn pixels<const G: usize, const K: usize, const S: usize, const P: usize>(
    columns: *const i8,
    group: usize,
    weights: *const i8,
    start: &[i32; CHANNELS],
) -> [[int32x4_t; 4]; P] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; P];
        unrolled!(P, |pixel| { sums[pixel] = load_start(start.as_ptr(), pixel) });
        let mut weights = weights;
        add_group::<K, S, P>(&mut sums, columns, &mut weights);
        if G == 2 {
            add_group::<K, S, P>(&mut sums, columns.add(group), &mut weights);
        }
        sums
    }
}

/// Adds the products of four rows.
///
/// # Safety
/// As for [`pixels`].
#[inline(always)]
unsafe fn add_group<const K: usize, const S: usize, const P: usize>(
    sums: &mut [[int32x4_t; 4]; P],
    mut columns: *const i8,
    weights: &mut *const i8,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut seen = [[vdupq_n_s8(0); 4]; P];
        unrolled!(K, |kx| { add_column::<S, P>(sums, &mut seen, &mut columns, weights, kx) });
    }
}

/// Adds the products of kernel column `kx`; `seen` is what each pixel saw last. `weights` are the next to use, and
/// `columns` the next not seen if the stride is 1, and the first of all if it is not.
///
/// # Safety
/// The columns and the weights are readable.
#[inline(always)]
unsafe fn add_column<const S: usize, const P: usize>(
    sums: &mut [[int32x4_t; 4]; P],
    seen: &mut [[int8x16_t; 4]; P],
    columns: &mut *const i8,
    weights: &mut *const i8,
    kx: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        for pixel in 0..P {
            seen[pixel] = if S > 1 {
                load_column(&mut columns.add((pixel * S + kx) * COLUMN), pixel)
            } else if kx > 0 && pixel + 1 < P {
                // The one that its right neighbour had before.
                seen[pixel + 1]
            } else {
                load_column(columns, pixel + kx)
            };
        }
        let weights = load_weights(weights);
        for (sums, seen) in sums.iter_mut().zip(&*seen) {
            add_products(sums, *seen, weights);
        }
    }
}

/// Adds the products of sixteen channels of a column. (Not the compiler's to move, as the loads are not: it would
/// load first and multiply later, and keep in memory what does not fit the registers.)
///
/// # Safety
/// The dot product is enabled.
#[inline(always)]
unsafe fn add_products(sums: &mut [int32x4_t; 4], a: [int8x16_t; 4], w: [int8x16_t; 4]) {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "sdot {s0:v}.4s, {a0:v}.16b, {w0:v}.16b",
            "sdot {s1:v}.4s, {a1:v}.16b, {w1:v}.16b",
            "sdot {s2:v}.4s, {a2:v}.16b, {w2:v}.16b",
            "sdot {s3:v}.4s, {a3:v}.16b, {w3:v}.16b",
            s0 = inout(vreg) sums[0], s1 = inout(vreg) sums[1],
            s2 = inout(vreg) sums[2], s3 = inout(vreg) sums[3],
            a0 = in(vreg) a[0], a1 = in(vreg) a[1], a2 = in(vreg) a[2], a3 = in(vreg) a[3],
            w0 = in(vreg) w[0], w1 = in(vreg) w[1], w2 = in(vreg) w[2], w3 = in(vreg) w[3],
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Loads four vectors at once, where they are used and into registers that nothing else needs, and moves the
/// address on: left to the compiler, what is the same for several pixels would be loaded once and
/// copied, and four vectors be two loads.
macro_rules! load_four {
    ($vector:ty, $from:expr, $a:tt, $b:tt, $c:tt, $d:tt) => {{
        let (a, b, c, d): ($vector, $vector, $vector, $vector);
        asm!(
            concat!("ld1 {{", $a, ".4s, ", $b, ".4s, ", $c, ".4s, ", $d, ".4s}}, [{from}], #64"),
            from = inout(reg) $from,
            out($a) a, out($b) b, out($c) c, out($d) d,
            options(readonly, nostack, preserves_flags),
        );
        [a, b, c, d]
    }};
}

/// What the sums of a pixel (0 to 2) start from.
///
/// # Safety
/// Sixteen numbers are readable.
#[inline(always)]
unsafe fn load_start(start: *const i32, pixel: usize) -> [int32x4_t; 4] {
    let mut from = start;
    // SAFETY: as the caller promises; nothing is written.
    let loaded = unsafe {
        match pixel {
            0 => load_four!(int32x4_t, from, "v16", "v17", "v18", "v19"),
            1 => load_four!(int32x4_t, from, "v20", "v21", "v22", "v23"),
            _ => load_four!(int32x4_t, from, "v24", "v25", "v26", "v27"),
        }
    };
    debug_assert_eq!(from, start.wrapping_add(CHANNELS));
    loaded
}

/// A column, into the registers of one of three places.
///
/// # Safety
/// 64 bytes are readable.
#[inline(always)]
unsafe fn load_column(from: &mut *const i8, place: usize) -> [int8x16_t; 4] {
    // SAFETY: as the caller promises; nothing is written.
    unsafe {
        match place % PIXELS {
            0 => load_four!(int8x16_t, *from, "v4", "v5", "v6", "v7"),
            1 => load_four!(int8x16_t, *from, "v8", "v9", "v10", "v11"),
            _ => load_four!(int8x16_t, *from, "v12", "v13", "v14", "v15"),
        }
    }
}

/// The weights of a kernel column.
///
/// # Safety
/// 64 bytes are readable.
#[inline(always)]
unsafe fn load_weights(from: &mut *const i8) -> [int8x16_t; 4] {
    // SAFETY: as the caller promises; nothing is written.
    unsafe { load_four!(int8x16_t, *from, "v0", "v1", "v2", "v3") }
}
