//! Hamming distances of one query to many rows of bits, for the first pass of a fast search.

use super::Machine;
use super::simd::{Vector, entry_points, prefetch};

/// Rows of a tile.
pub const TILE_ROWS: usize = 64;
/// Bytes of a column: one 64-bit word of each row.
const COLUMN: usize = 8 * TILE_ROWS;
/// How many tiles ahead bits are fetched from memory: columns lie too far apart for the
/// processor to see that they will be wanted.
const AHEAD: usize = 2;

/// The number of bits in which `query` differs from each row of whole tiles.
///
/// The query is a number of 64-bit words. A tile holds [`TILE_ROWS`] rows column by column: the
/// first word of each row, then the second of each, so that a vector works on as many rows as
/// it holds words and adds nothing up across its lanes. The order of bits and bytes within a
/// word does not matter.
///
/// # Panics
/// If the query is empty or no whole number of words, `tiles` is not a whole number of tiles,
/// `out` has the wrong length, or this processor does not have the machine.
pub fn hamming_tiles(machine: Machine, query: &[u8], tiles: &[u8], out: &mut [u32]) {
    machine.assert_available();
    assert!(!query.is_empty() && query.len().is_multiple_of(8), "not whole words");
    assert!(tiles.len().is_multiple_of(query.len() * TILE_ROWS), "not whole tiles");
    assert_eq!(out.len(), tiles.len() / query.len(), "output has the wrong length");
    #[cfg(target_arch = "x86_64")]
    if machine == Machine::Avx512Vnni && is_x86_feature_detected!("avx512vpopcntdq") {
        // SAFETY: the instructions are there.
        return unsafe { counting(query, tiles, out) };
    }
    // SAFETY: the machine is available.
    unsafe { hamming_on(machine, query, tiles, out) }
}

/// [`hamming`] where an instruction counts the bits of each word, which not every processor
/// has that has the rest.
///
/// # Safety
/// The processor has AVX-512 F and VPOPCNTDQ.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
unsafe fn counting(query: &[u8], tiles: &[u8], out: &mut [u32]) {
    hamming::<64>(query, tiles, out);
}

entry_points! {
    /// [`hamming_tiles`] on a machine.
    fn hamming_on(query: &[u8], tiles: &[u8], out: &mut [u32]) = hamming_by;
}

/// [`hamming`], compiled for a machine.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn hamming_by<V: Vector>(query: &[u8], tiles: &[u8], out: &mut [u32]) {
    hamming::<16>(query, tiles, out);
}

/// Plain loops, which compile to vector instructions; the counts of `TOGETHER` rows, a divisor
/// of 64, have to fit the registers.
#[inline(always)]
fn hamming<const TOGETHER: usize>(query: &[u8], tiles: &[u8], out: &mut [u32]) {
    let (query, _) = query.as_chunks::<8>();
    let (columns, _) = tiles.as_chunks::<COLUMN>();
    for (columns, out) in columns.chunks_exact(query.len()).zip(out.chunks_exact_mut(TILE_ROWS)) {
        let tile = columns.as_flattened();
        for line in (0..tile.len()).step_by(64) {
            prefetch(tile.as_ptr().wrapping_add(AHEAD * tile.len() + line));
        }
        for (part, out) in out.chunks_exact_mut(TOGETHER).enumerate() {
            let mut counts = [0u64; TOGETHER];
            for (word, column) in query.iter().zip(columns) {
                let word = u64::from_ne_bytes(*word);
                let (cells, _) = column[part * 8 * TOGETHER..].as_chunks::<8>();
                for (count, cell) in counts.iter_mut().zip(cells) {
                    *count += u64::from((u64::from_ne_bytes(*cell) ^ word).count_ones());
                }
            }
            for (out, count) in out.iter_mut().zip(counts) {
                *out = count as u32;
            }
        }
    }
}
