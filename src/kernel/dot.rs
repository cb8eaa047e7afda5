//! Scans of the flat index: 8-bit dot products of queries with many rows.

use super::pack::{Layout, PackedWeights};
use super::scratch::{AlignedBytes, Scratch};
use super::simd::{Dot, entry_points, prefetch};
use super::{Machine, WeightMatrix};

/// The largest dimension of a vector.
const MOST_DIMENSIONS: usize = 65_536;

/// Queries that rows are multiplied with at a time, where they are not packed.
const TOGETHER: usize = 4;

/// How far ahead of the row that is multiplied rows are fetched from memory, in bytes.
const AHEAD: usize = 4096;

/// Queries of 8-bit vectors, prepared for scans.
#[derive(Debug, Clone)]
pub struct DotQueries {
    machine: Machine,
    dimension: usize,
    count: usize,
    /// Bytes from query to query: the dimension in whole vectors.
    stride: usize,
    values: AlignedBytes,
    /// What a query's accumulator starts from, since rows are multiplied as unsigned bytes.
    starts: Vec<i32>,
    /// The queries as weights, one vector of them a panel, where there are enough of them.
    panels: Option<PackedWeights>,
}

impl DotQueries {
    /// Prepares `queries`, one after another, of `dimension` values each.
    ///
    /// Values of -128 are allowed, but scans are slow if there is one.
    ///
    /// # Panics
    /// If the dimension is 0 or over 65 536, there is not a whole number of queries, or this
    /// processor does not have the machine.
    pub fn new(machine: Machine, queries: &[i8], dimension: usize) -> Self {
        machine.assert_available();
        assert!((1..=MOST_DIMENSIONS).contains(&dimension), "dimension out of range");
        assert!(queries.len().is_multiple_of(dimension), "not a whole number of queries");
        // Only the reference multiplies any two bytes exactly.
        let machine = if queries.contains(&i8::MIN) { Machine::Scalar } else { machine };
        let layout = Layout { panel_vectors: 1, ..machine.layout() };
        let count = queries.len() / dimension;
        let stride = dimension.next_multiple_of(4 * layout.lanes);
        let mut values = AlignedBytes::zeroed(stride * count.next_multiple_of(TOGETHER));
        let rows = queries.chunks_exact(dimension);
        for (to, from) in values.as_mut_slice().chunks_exact_mut(stride).zip(rows.clone()) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from as u8;
            }
        }
        let mut starts: Vec<i32> = rows
            .map(|row| (layout.offset - 128) * row.iter().map(|&q| i32::from(q)).sum::<i32>())
            .collect();
        starts.resize(count.next_multiple_of(TOGETHER.max(layout.lanes)), 0);
        // A panel costs what a full vector of queries does, but no sums across lanes. Values of
        // -128 cannot be packed.
        let panels = (2 * count > layout.lanes)
            .then(|| {
                let weights = WeightMatrix::dense(queries, count, dimension).ok()?;
                PackedWeights::new(layout, &weights).ok()
            })
            .flatten();
        Self { machine, dimension, count, stride, values, starts, panels }
    }

    /// Number of queries.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Values in a query.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The exact dot products of all queries with all rows: `out[row · count + query]`.
    ///
    /// Rows may hold any bytes, at any alignment.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows, or `out` has the wrong length.
    pub fn dot_rows(&self, rows: &[i8], out: &mut [i32], scratch: &mut Scratch) {
        assert!(rows.len().is_multiple_of(self.dimension), "not a whole number of rows");
        let products = (rows.len() / self.dimension).checked_mul(self.count);
        assert_eq!(Some(out.len()), products, "output has the wrong length");
        match &self.panels {
            // SAFETY: the machine was available when this was made; lengths were checked.
            Some(panels) => unsafe {
                panels_on(self.machine, self, panels, rows, out, &mut scratch.bytes);
            },
            // SAFETY: as above.
            None if self.count > 0 => unsafe { dot_on(self.machine, self, rows, out) },
            None => {}
        }
    }

    /// The exact dot products of the first query with the rows that begin at `starts` in `data`.
    ///
    /// # Panics
    /// If there is no query, a row does not end within `data`, or `out` has the wrong length.
    pub fn dot_rows_at(&self, data: &[i8], starts: &[usize], out: &mut [i32]) {
        assert!(self.count > 0, "no query");
        assert_eq!(out.len(), starts.len(), "output has the wrong length");
        let last = data.len().checked_sub(self.dimension);
        assert!(
            starts.iter().all(|&start| last.is_some_and(|last| start <= last)),
            "a row is not there"
        );
        // SAFETY: the machine was available when this was made; all rows lie within `data`.
        unsafe { scattered_on(self.machine, self, data, starts, out) }
    }
}

entry_points! {
    /// [`DotQueries::dot_rows`] on a machine, row by row.
    fn dot_on(queries: &DotQueries, rows: &[i8], out: &mut [i32]) = dot_all;
    /// [`DotQueries::dot_rows`] on a machine, with packed queries.
    fn panels_on(queries: &DotQueries, panels: &PackedWeights, rows: &[i8], out: &mut [i32],
        copy: &mut AlignedBytes) = dot_panels;
    /// [`DotQueries::dot_rows_at`] on a machine.
    fn scattered_on(queries: &DotQueries, data: &[i8], starts: &[usize], out: &mut [i32])
        = dot_scattered;
}

/// A few rows by a few queries at a time, as many as share the loads of the others.
///
/// # Safety
/// The machine's instructions are enabled; lengths agree as [`DotQueries::dot_rows`] checks.
#[inline(always)]
unsafe fn dot_all<V: Dot>(queries: &DotQueries, rows: &[i8], out: &mut [i32]) {
    let (count, dimension) = (queries.count, queries.dimension);
    let total = rows.len() / dimension;
    let at = |row: usize| rows[row * dimension..].as_ptr();
    let mut row = 0;
    // SAFETY: the rows exist, and queries are padded to groups of `TOGETHER`.
    unsafe {
        if count == 1 {
            while row + 4 <= total {
                let start = at(row);
                for line in (0..4 * dimension).step_by(64) {
                    prefetch(start.wrapping_add(AHEAD + line).cast());
                }
                let places = [0, 1, 2, 3].map(|r| start.add(r * dimension));
                let sums = block::<V, 4, 1>(queries, places, 0);
                let add = queries.starts[0];
                for (out, [sum]) in out[row..row + 4].iter_mut().zip(sums) {
                    *out = sum.wrapping_add(add);
                }
                row += 4;
            }
        }
        while row < total {
            for first in (0..count).step_by(TOGETHER) {
                let [sums] = block::<V, 1, TOGETHER>(queries, [at(row)], first);
                let last = (first + TOGETHER).min(count);
                for (query, sum) in (first..last).zip(sums) {
                    out[row * count + query] = sum.wrapping_add(queries.starts[query]);
                }
            }
            row += 1;
        }
    }
}

/// One query by rows here and there, four at a time.
///
/// # Safety
/// The machine's instructions are enabled, and the rows lie within `data`.
#[inline(always)]
unsafe fn dot_scattered<V: Dot>(
    queries: &DotQueries,
    data: &[i8],
    starts: &[usize],
    out: &mut [i32],
) {
    let add = queries.starts[0];
    let (fours, rest) = starts.as_chunks::<4>();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    // SAFETY: the caller vouches for every row.
    unsafe {
        for (out, starts) in out_fours.iter_mut().zip(fours) {
            let sums = block::<V, 4, 1>(queries, starts.map(|start| data.as_ptr().add(start)), 0);
            *out = sums.map(|[sum]| sum.wrapping_add(add));
        }
        for (out, &start) in out_rest.iter_mut().zip(rest) {
            let [sums] = block::<V, 1, TOGETHER>(queries, [data.as_ptr().add(start)], 0);
            *out = sums[0].wrapping_add(add);
        }
    }
}

/// Rows as activations, queries as weights: a lane sums up one query, so that nothing is left
/// to add across lanes.
///
/// # Safety
/// The machine's instructions are enabled; lengths agree as [`DotQueries::dot_rows`] checks;
/// `panels` are `queries`, packed for the machine with one vector a panel.
#[inline(always)]
unsafe fn dot_panels<V: Dot>(
    queries: &DotQueries,
    panels: &PackedWeights,
    rows: &[i8],
    out: &mut [i32],
    copy: &mut AlignedBytes,
) {
    let (count, dimension, padded) = (queries.count, queries.dimension, panels.inputs_padded);
    let rows_at_once = V::TILE_ROWS[0];
    let copy = copy.reserve(rows_at_once * padded);
    let blocks = rows.chunks(rows_at_once * dimension);
    for (rows, out) in blocks.zip(out.chunks_mut(rows_at_once * count)) {
        for (to, row) in copy.chunks_exact_mut(padded).zip(rows.chunks_exact(dimension)) {
            for (to, &from) in to.iter_mut().zip(row) {
                *to = from as u8 ^ 0x80;
            }
            // The weights there are zero; 128 is, too, so that nothing depends on it.
            to[dimension..].fill(0x80);
        }
        let done = rows.len() / dimension;
        let mut row = 0;
        while row < done {
            let left = done - row;
            let place = copy[row * padded..].as_ptr();
            let out = &mut out[row * count..];
            // SAFETY: `left` rows of `padded` bytes begin at `place`.
            row += unsafe {
                match V::TILE_ROWS[0] {
                    12.. if left >= 12 => tile_rows::<V, 12>(queries, panels, place, out),
                    8.. if left >= 8 => tile_rows::<V, 8>(queries, panels, place, out),
                    _ if left >= 4 => tile_rows::<V, 4>(queries, panels, place, out),
                    _ => tile_rows::<V, 1>(queries, panels, place, out),
                }
            };
        }
    }
}

/// `R` rows by all panels; gives `R`.
///
/// # Safety
/// As for [`dot_panels`]; `R` rows of `panels.inputs_padded` activations begin at `rows`.
#[inline(always)]
unsafe fn tile_rows<V: Dot, const R: usize>(
    queries: &DotQueries,
    panels: &PackedWeights,
    rows: *const u8,
    out: &mut [i32],
) -> usize {
    let (count, padded) = (queries.count, panels.inputs_padded);
    let weights = panels.data.as_slice().chunks_exact(padded * V::LANES);
    for (panel, weights) in weights.enumerate() {
        let first = panel * V::LANES;
        let width = V::LANES.min(count - first);
        // SAFETY: rows are readable for `padded` bytes, a panel for `padded * LANES`, and
        // `starts` are padded to whole vectors.
        unsafe {
            let start = V::load_i(queries.starts[first..].as_ptr());
            let mut sums = [[V::add_i(start, panels.lacking::<V>(first)); 1]; R];
            let groups = padded / V::K_GROUP;
            V::tile::<R, 1>(rows, padded, weights.as_ptr().cast(), groups, &mut sums);
            for (row, [sum]) in sums.into_iter().enumerate() {
                let out = &mut out[row * count + first..][..width];
                let mut lanes = [0; 16];
                V::store_i(lanes.as_mut_ptr(), sum);
                out.copy_from_slice(&lanes[..width]);
            }
        }
    }
    R
}

/// The products of `R` rows with queries `first..first + Q`, without what they start from.
///
/// # Safety
/// `R * Q` is a multiple of four. The rows that begin at `rows`, and the queries, exist.
#[inline(always)]
unsafe fn block<V: Dot, const R: usize, const Q: usize>(
    queries: &DotQueries,
    rows: [*const i8; R],
    first: usize,
) -> [[i32; Q]; R] {
    // SAFETY: rows are read up to their dimension, queries up to their padded length.
    unsafe {
        let (step, dimension) = (4 * V::LANES, queries.dimension);
        let values = queries.values.as_slice().as_ptr().cast::<i8>().add(first * queries.stride);
        let whole = dimension - dimension % step;
        let mut sums = [[V::splat_i(0); Q]; R];
        for i in (0..whole).step_by(step) {
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = V::load_signed(rows[r].add(i));
                for (q, sum) in sums.iter_mut().enumerate() {
                    let w = V::load_weights(values.add(q * queries.stride + i));
                    *sum = V::dot(*sum, a, w);
                }
            }
        }
        if whole < dimension {
            for (r, sums) in sums.iter_mut().enumerate() {
                // Beyond the row's end the queries are zero.
                let a = V::load_signed_part(rows[r].add(whole), dimension - whole);
                for (q, sum) in sums.iter_mut().enumerate() {
                    let w = V::load_weights(values.add(q * queries.stride + whole));
                    *sum = V::dot(*sum, a, w);
                }
            }
        }
        let mut totals = [[0; Q]; R];
        let flat = sums.as_flattened();
        for (totals, sums) in totals.as_flattened_mut().chunks_mut(4).zip(flat.chunks(4)) {
            totals.copy_from_slice(&V::sum_four_i([sums[0], sums[1], sums[2], sums[3]]));
        }
        totals
    }
}
