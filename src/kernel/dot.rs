//! Scans of the flat index: 8-bit dot products and Hamming distances against many rows.

use super::Machine;

/// Queries of 8-bit vectors, prepared for scans.
#[derive(Debug, Clone)]
pub struct DotQueries {
    machine: Machine,
    dimension: usize,
    count: usize,
    values: Vec<i8>,
}

impl DotQueries {
    /// Prepares `queries`, one after another, of `dimension` values each.
    ///
    /// # Panics
    /// If the dimension is 0 or over 65 536, or there is not a whole number of queries.
    pub fn new(machine: Machine, queries: &[i8], dimension: usize) -> Self {
        machine.assert_available();
        assert!((1..=65_536).contains(&dimension), "dimension out of range");
        assert!(queries.len().is_multiple_of(dimension), "not a whole number of queries");
        let count = queries.len() / dimension;
        Self { machine, dimension, count, values: queries.to_vec() }
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
    /// # Panics
    /// If `rows` is not a whole number of rows, or `out` has the wrong length.
    pub fn dot_rows(&self, rows: &[i8], out: &mut [i32]) {
        assert!(rows.len().is_multiple_of(self.dimension), "not a whole number of rows");
        let products = (rows.len() / self.dimension).checked_mul(self.count);
        assert_eq!(Some(out.len()), products, "output has the wrong length");
        if self.count == 0 {
            return;
        }
        let rows = rows.chunks_exact(self.dimension);
        for (row, out) in rows.zip(out.chunks_exact_mut(self.count)) {
            for (query, out) in self.values.chunks_exact(self.dimension).zip(out) {
                *out = row.iter().zip(query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            }
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
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = row.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum();
    }
}
