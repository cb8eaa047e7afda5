//! Scans of the flat index: 8-bit dot products and Hamming distances against many rows.

use super::Machine;
use super::scratch::AlignedBytes;
use super::simd::{Dot, entry_points};

/// The largest dimension of a vector.
const MOST_DIMENSIONS: usize = 65_536;

/// Queries that rows are multiplied with at a time.
const TOGETHER: usize = 4;

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
        let layout = machine.layout();
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
        starts.resize(count.next_multiple_of(TOGETHER), 0);
        Self { machine, dimension, count, stride, values, starts }
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
    pub fn dot_rows(&self, rows: &[i8], out: &mut [i32]) {
        assert!(rows.len().is_multiple_of(self.dimension), "not a whole number of rows");
        let products = (rows.len() / self.dimension).checked_mul(self.count);
        assert_eq!(Some(out.len()), products, "output has the wrong length");
        if self.count > 0 {
            // SAFETY: the machine was available when this was made; lengths were checked.
            unsafe { dot_on(self.machine, self, rows, out) }
        }
    }
}

/// The number of bits in which `query` differs from each row of the same number of bytes.
///
/// # Panics
/// If the query is empty, `rows` is not a whole number of rows, or `out` has the wrong length.
pub fn hamming_rows(machine: Machine, query: &[u8], rows: &[u8], out: &mut [u32]) {
    machine.assert_available();
    assert!(!query.is_empty() && rows.len().is_multiple_of(query.len()), "not whole rows");
    assert_eq!(out.len(), rows.len() / query.len(), "output has the wrong length");
    // SAFETY: the machine is available.
    unsafe { hamming_on(machine, query, rows, out) }
}

entry_points! {
    /// [`DotQueries::dot_rows`] on a machine.
    fn dot_on(queries: &DotQueries, rows: &[i8], out: &mut [i32]) = dot_all;
    /// [`hamming_rows`] on a machine.
    fn hamming_on(query: &[u8], rows: &[u8], out: &mut [u32]) = hamming;
}

/// A few rows by a few queries at a time, as many as share the loads of the others.
///
/// # Safety
/// The machine's instructions are enabled; lengths agree as [`DotQueries::dot_rows`] checks.
#[inline(always)]
unsafe fn dot_all<V: Dot>(queries: &DotQueries, rows: &[i8], out: &mut [i32]) {
    let (count, dimension) = (queries.count, queries.dimension);
    let total = rows.len() / dimension;
    let mut row = 0;
    // SAFETY: the rows exist, and queries are padded to groups of `TOGETHER`.
    unsafe {
        if count == 1 {
            while row + 4 <= total {
                let start = rows.as_ptr().add(row * dimension);
                let sums = block::<V, 4, 1>(queries, start, 0);
                let add = queries.starts[0];
                for (out, [sum]) in out[row..row + 4].iter_mut().zip(sums) {
                    *out = sum.wrapping_add(add);
                }
                row += 4;
            }
        }
        while row < total {
            // As many rows as leave accumulators in registers.
            let most = if V::PRODUCT_VECTORS > 2 { 4 } else { 2 };
            let together = if row + most <= total { most } else { 1 };
            let start = rows.as_ptr().add(row * dimension);
            for first in (0..count).step_by(TOGETHER) {
                let mut sums = [[0; TOGETHER]; 4];
                if V::PRODUCT_VECTORS > 2 && together == 4 {
                    sums = block::<V, 4, TOGETHER>(queries, start, first);
                } else if together == 2 {
                    [sums[0], sums[1]] = block::<V, 2, TOGETHER>(queries, start, first);
                } else {
                    [sums[0]] = block::<V, 1, TOGETHER>(queries, start, first);
                }
                let last = (first + TOGETHER).min(count);
                for (r, sums) in sums[..together].iter().enumerate() {
                    for (query, sum) in (first..last).zip(sums) {
                        let at = (row + r) * count + query;
                        out[at] = sum.wrapping_add(queries.starts[query]);
                    }
                }
            }
            row += together;
        }
    }
}

/// The products of `R` rows with queries `first..first + Q`, without what they start from.
///
/// # Safety
/// `R * Q` is a multiple of four. The rows, one after another from `rows` on, and the queries exist.
#[inline(always)]
unsafe fn block<V: Dot, const R: usize, const Q: usize>(
    queries: &DotQueries,
    rows: *const i8,
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
                let a = V::load_signed(rows.add(r * dimension + i));
                for (q, sum) in sums.iter_mut().enumerate() {
                    let w = V::load_weights(values.add(q * queries.stride + i));
                    *sum = V::dot(*sum, a, w);
                }
            }
        }
        if whole < dimension {
            for (r, sums) in sums.iter_mut().enumerate() {
                // Beyond the row's end the queries are zero.
                let rest = rows.add(r * dimension + whole);
                let a = V::load_signed_part(rest, dimension - whole);
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

/// # Safety
/// The machine's instructions are enabled; lengths agree as [`hamming_rows`] checks.
#[inline(always)]
unsafe fn hamming<V: Dot>(query: &[u8], rows: &[u8], out: &mut [u32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        // SAFETY: query and row have the length given.
        *out = unsafe { V::differing_bits(query.as_ptr(), row.as_ptr(), query.len()) };
    }
}
