//! The rows of a depthwise convolution.
//!
//! Four rows of the picture are interleaved byte by byte, so that a lane holds the four pixels of a
//! kernel column in one channel and a dot product instruction multiplies them at once. The
//! interleaved columns are kept for all outputs that look at them: those of the row, and those
//! of the next rows as far as the four rows reach.

use std::ops::Range;

use super::depthwise_output::{Finish, Output, start_of, store, sums_to_floats};
use super::simd::{Dot, entry_points, unrolled};
use super::{Band, Depthwise};

/// A checked request.
pub(crate) struct Job<'a> {
    pub layer: &'a Depthwise,
    pub input: Band<'a, u8>,
    /// Output width.
    pub width: usize,
    /// Input columns under a row of output, padding included.
    pub columns: usize,
    /// Channels of a pixel of padding.
    pub padding: [u8; 64],
    /// Room for `columns` × groups × four vectors of activations, on a cache line.
    pub interleaved: &'a mut [u8],
}

entry_points! {
    /// Depthwise convolution on a machine.
    fn depthwise_on(job: &mut Job<'_>, rows: Range<usize>, output: Output<'_>) = depthwise;
}

/// # Safety
/// The job's band holds all input rows under `rows`; the output holds those rows.
#[inline(always)]
unsafe fn depthwise<V: Dot>(job: &mut Job<'_>, rows: Range<usize>, output: Output<'_>) {
    let Depthwise { channels, shared_rows, .. } = *job.layer;
    for y in rows.clone().step_by(shared_rows) {
        let together = shared_rows.min(rows.end - y);
        for first in (0..channels).step_by(4 * V::LANES) {
            // SAFETY: all rows and channels lie within what the caller vouches for.
            unsafe {
                interleave_columns::<V>(job, y, together, first);
                for shared in 0..together {
                    let end = (first + 4 * V::LANES).min(channels);
                    for channel in (first..end).step_by(V::LANES) {
                        let at = (y + shared - rows.start) * job.width * channels + channel;
                        row_of_vector::<V>(job, shared, (first, channel), output, at);
                    }
                }
            }
        }
    }
    if let Output::Floats { quantisation, activation, out } = output {
        let pixels = rows.len() * job.width;
        // SAFETY: the output holds this many pixels.
        unsafe { sums_to_floats::<V>(job.layer, quantisation, activation, out, pixels) }
    }
}

/// Interleaves the columns under output rows `y..y + together` in four vectors of channels.
///
/// # Safety
/// As for [`depthwise`].
#[inline(always)]
unsafe fn interleave_columns<V: Dot>(job: &mut Job<'_>, y: usize, together: usize, first: usize) {
    let Depthwise { window, channels, groups, .. } = *job.layer;
    let count = (channels - first).min(4 * V::LANES);
    let top = y * window.stride[0];
    let rows = (together - 1) * window.stride[0] + window.kernel[0];
    let (left, width) = (window.before[1].min(job.columns), job.input.width);
    let inside = width.min(job.columns - left);
    let buffer = job.interleaved.as_mut_ptr().cast::<[V::Activations; 4]>();
    debug_assert!(job.columns * groups * size_of::<[V::Activations; 4]>() <= job.interleaved.len());
    // SAFETY: pointers into the band are made only for rows that are inside the picture and, being
    // under the output rows, at hand; and for columns inside it. Whole vectors are
    // loaded only where the row, from that channel on, has so many bytes.
    unsafe {
        let padding = V::interleave([job.padding.as_ptr(); 4]);
        for group in 0..groups {
            let to = buffer.add(group * job.columns);
            let mut from = [job.padding.as_ptr(); 4];
            let mut step = [0; 4];
            for r in 0..4 {
                let row = group * 4 + r;
                let iy = (top + row).wrapping_sub(window.before[0]);
                if row < rows && iy < job.input.height {
                    let at = (iy - job.input.first_row) * width * channels + first;
                    from[r] = job.input.data.as_ptr().add(at);
                    step[r] = channels;
                }
            }
            for x in 0..left {
                *to.add(x) = padding;
            }
            let to = to.add(left);
            // Columns after which the row goes on for at least four vectors.
            let whole = ((width + 1) * channels).saturating_sub(first + 4 * V::LANES) / channels;
            let whole = whole.min(inside);
            for x in 0..whole {
                *to.add(x) = V::interleave(columns(from, step, x));
            }
            for x in whole..inside {
                *to.add(x) = V::interleave_part(columns(from, step, x), count);
            }
            for x in inside..job.columns - left {
                *to.add(x) = padding;
            }
        }
    }
}

/// The addresses of column `x` in four rows.
///
/// # Safety
/// They lie inside their slices.
#[inline(always)]
unsafe fn columns(rows: [*const u8; 4], step: [usize; 4], x: usize) -> [*const u8; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        [
            rows[0].add(x * step[0]),
            rows[1].add(x * step[1]),
            rows[2].add(x * step[2]),
            rows[3].add(x * step[3]),
        ]
    }
}

/// Computes a row of output in one vector of channels, with loops unrolled for the usual kernels.
///
/// # Safety
/// The columns are interleaved; the output holds the row from element `at` on.
#[inline(always)]
unsafe fn row_of_vector<V: Dot>(
    job: &Job<'_>,
    shared: usize,
    channels: (usize, usize),
    output: Output<'_>,
    at: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match (job.layer.groups, job.layer.window.kernel[1]) {
            (1, 3) => row_unrolled::<V, 1, 3>(job, shared, channels, output, at),
            (2, 5) => row_unrolled::<V, 2, 5>(job, shared, channels, output, at),
            (2, 7) => row_unrolled::<V, 2, 7>(job, shared, channels, output, at),
            (groups, width) => {
                let (weights, columns) = sources::<V>(job, shared, channels);
                let start = start_of::<V>(job.layer, channels.1, output);
                for x in 0..job.width {
                    let mut sum = start;
                    for group in 0..groups {
                        for kx in 0..width {
                            let column = x * job.layer.window.stride[1] + kx;
                            let a = *columns.add((group * job.columns + column) * 4);
                            let w = weights.add((group * width + kx) * 4 * V::LANES);
                            sum = V::dot(sum, a, V::load_weights(w));
                        }
                    }
                    let at = at + x * job.layer.channels;
                    store::<V>(job.layer, channels.1, sum, output, at);
                }
            }
        }
    }
}

/// [`row_of_vector`] for kernels of `G` groups and `K` columns, whose weights stay in registers.
///
/// # Safety
/// As for [`row_of_vector`].
#[inline(always)]
unsafe fn row_unrolled<V: Dot, const G: usize, const K: usize>(
    job: &Job<'_>,
    shared: usize,
    channels: (usize, usize),
    output: Output<'_>,
    at: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let (weights, columns) = sources::<V>(job, shared, channels);
        let start = start_of::<V>(job.layer, channels.1, output);
        let mut kernel = [[V::load_weights(weights); K]; G];
        for (group, kernel) in kernel.iter_mut().enumerate() {
            for (kx, w) in kernel.iter_mut().enumerate() {
                *w = V::load_weights(weights.add((group * K + kx) * 4 * V::LANES));
            }
        }
        let stride = job.layer.window.stride[1] * 4;
        if let Output::Bytes { plan, out } = output
            && channels.1 + V::LANES <= job.layer.channels
        {
            let kernel = (start, &kernel);
            let finish = Finish::<V>::load(plan, channels.1);
            let mut x = 0;
            while x + TOGETHER <= job.width {
                let to = out.add(at + x * job.layer.channels);
                let columns = columns.add(x * stride);
                if stride == 4 {
                    bytes_side_by_side::<V, G, K>(job, columns, kernel, finish, to);
                } else {
                    bytes_of_pixels::<V, G, K, TOGETHER>(
                        job,
                        (columns, stride),
                        kernel,
                        finish,
                        to,
                    );
                }
                x += TOGETHER;
            }
            while x < job.width {
                let to = out.add(at + x * job.layer.channels);
                let columns = (columns.add(x * stride), stride);
                bytes_of_pixels::<V, G, K, 1>(job, columns, kernel, finish, to);
                x += 1;
            }
            return;
        }
        for x in 0..job.width {
            let mut sum = start;
            for (group, kernel) in kernel.iter().enumerate() {
                let columns = columns.add(group * job.columns * 4 + x * stride);
                for (kx, &w) in kernel.iter().enumerate() {
                    sum = V::dot(sum, *columns.add(kx * 4), w);
                }
            }
            store::<V>(job.layer, channels.1, sum, output, at + x * job.layer.channels);
        }
    }
}

/// Neighbouring pixels whose sums are formed side by side, so that one need not wait for another.
const TOGETHER: usize = 4;

/// Computes `P` neighbouring pixels in a whole vector of channels, as bytes. The pixels'
/// interleaved columns start at the address given, and go on after the step given.
///
/// # Safety
/// As for [`row_of_vector`].
#[inline(always)]
unsafe fn bytes_of_pixels<V: Dot, const G: usize, const K: usize, const P: usize>(
    job: &Job<'_>,
    (columns, step): (*const V::Activations, usize),
    (start, kernel): (V::I, &[[V::Weights; K]; G]),
    finish: Finish<V>,
    out: *mut u8,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [start; P];
        for (group, kernel) in kernel.iter().enumerate() {
            let columns = columns.add(group * job.columns * 4);
            for (kx, &w) in kernel.iter().enumerate() {
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    *sum = V::dot(*sum, *columns.add(pixel * step + kx * 4), w);
                }
            }
        }
        for (pixel, &sum) in sums.iter().enumerate() {
            let y = finish.apply(sum);
            V::store_u8(out.add(pixel * job.layer.channels), y, finish.range);
        }
    }
}

/// [`bytes_of_pixels`] of [`TOGETHER`] pixels whose columns are neighbours: each column is loaded once
/// for all pixels that look at it.
///
/// # Safety
/// As for [`row_of_vector`].
#[inline(always)]
unsafe fn bytes_side_by_side<V: Dot, const G: usize, const K: usize>(
    job: &Job<'_>,
    columns: *const V::Activations,
    (start, kernel): (V::I, &[[V::Weights; K]; G]),
    finish: Finish<V>,
    out: *mut u8,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [start; TOGETHER];
        unrolled!(G, |group| {
            let columns = columns.add(group * job.columns * 4);
            unrolled!(TOGETHER - 1 + K, |column| {
                let a = *columns.add(column * 4);
                unrolled!(TOGETHER, |pixel| {
                    if column >= pixel && column - pixel < K {
                        sums[pixel] = V::dot(sums[pixel], a, kernel[group][column - pixel]);
                    }
                });
            });
        });
        let bytes = sums.map(|sum| finish.apply(sum));
        V::store_u8_rows(out, job.layer.channels, bytes, finish.range);
    }
}

/// Where the weights for a vector of channels lie, and its first interleaved column (the next is
/// four vectors on).
///
/// # Safety
/// As for [`row_of_vector`].
#[inline(always)]
unsafe fn sources<V: Dot>(
    job: &Job<'_>,
    shared: usize,
    (first, channel): (usize, usize),
) -> (*const i8, *const V::Activations) {
    let layer = job.layer;
    let kernel = layer.groups * layer.window.kernel[1];
    let vector = (channel / V::LANES * layer.shared_rows + shared) * kernel;
    // SAFETY: the layer has weights for every vector of channels and shared row.
    unsafe {
        let weights = layer.weights.as_slice().as_ptr().cast::<i8>().add(vector * 4 * V::LANES);
        let columns = job.interleaved.as_ptr().cast::<V::Activations>();
        (weights, columns.add((channel - first) / V::LANES))
    }
}
