//! Products of int8 rows and distances of bit rows, as the scan needs them.

/// Most queries that are compared with a row while it is in the cache.
pub(crate) const QUERIES: usize = 16;

/// Dot products of each query with each row, all `stride` long: `out[q * rows + r]`.
pub(crate) fn dots(queries: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    let count = rows.len() / stride;
    for (r, row) in rows.chunks_exact(stride).enumerate() {
        for (q, query) in queries.chunks_exact(stride).enumerate() {
            out[q * count + r] =
                query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        }
    }
}

/// Number of differing bits between a query and each row, all `words` long.
pub(crate) fn distances(query: &[[u8; 8]], rows: &[[u8; 8]], out: &mut [u32]) {
    for (row, distance) in rows.chunks_exact(query.len()).zip(out) {
        *distance = query
            .iter()
            .zip(row)
            .map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones())
            .sum();
    }
}
