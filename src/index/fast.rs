//! The approximate search: bits first, then the best rows exactly.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::embedding::Embedding;
use crate::index::filter::CompiledFilter;
use crate::index::format::{BLOCK, Column};
use crate::index::scan::{Queries, on_threads};
use crate::index::sketch::Sketch;
use crate::index::top::{Candidate, Top};
use crate::index::{IndexError, Reader};
use crate::kernel::{Machine, TILE_ROWS, hamming_tiles};

/// Most rows that go from the first pass to the second.
const CANDIDATES: usize = 8192;
/// Rows for the second pass: at least this many for each result …
const FOR_EACH_RESULT: usize = 64;
/// … and at least one of this many.
const ONE_OF: usize = 128;
const TILE: u32 = TILE_ROWS as u32;
/// Rows that are compared at once in the second pass.
const TOGETHER: usize = 64;
const BLOCKS_AT_ONCE: u32 = 32;
/// One tile of this many is looked at beforehand, to guess how near the nearest are.
const ONE_TILE_OF: usize = 64;
/// No guess: every row may enter.
const ANY: u64 = u64::MAX;

/// The rows nearest in bits, in memory fixed beforehand: a buffer of twice as many as are
/// wanted, cut to the better half when it is full.
struct Nearest {
    /// Distance in the upper half, row in the lower.
    buffer: Box<heapless::Vec<u64, { 2 * CANDIDATES }>>,
    limit: usize,
    /// What is not below this cannot enter.
    threshold: u64,
}

impl Nearest {
    fn new(limit: usize, threshold: u64) -> Self {
        Self { buffer: Box::default(), limit: limit.clamp(1, CANDIDATES), threshold }
    }

    fn show(&mut self, distance: u32, row: u32) {
        let item = u64::from(distance) << 32 | u64::from(row);
        if item < self.threshold {
            if self.buffer.len() >= 2 * self.limit {
                self.cut();
            }
            // Cannot fail: the cut left room.
            let _ = self.buffer.push(item);
        }
    }

    /// Shows the rows of a tile whose bit in `mask` is set.
    fn show_tile(&mut self, distances: &[u32], first: u32, mask: u64) {
        for (part, distances) in distances.chunks(16).enumerate() {
            let limit = ((self.threshold - 1) >> 32) as u32;
            if distances.iter().fold(false, |any, &distance| any | (distance <= limit)) {
                for (at, &distance) in (part * 16..).zip(distances) {
                    if mask >> at & 1 == 1 {
                        self.show(distance, first + at as u32);
                    }
                }
            }
        }
    }

    /// Keeps the best.
    fn cut(&mut self) {
        if self.buffer.len() > self.limit {
            self.threshold = *self.buffer.select_nth_unstable(self.limit - 1).1 + 1;
            self.buffer.truncate(self.limit);
        }
    }

    /// The best rows, ascending.
    fn into_rows(mut self) -> Vec<u32> {
        self.cut();
        let mut rows: Vec<u32> = self.buffer.iter().map(|&item| item as u32).collect();
        rows.sort_unstable();
        rows
    }

    fn merge(&mut self, other: Nearest) {
        for &item in other.buffer.iter() {
            self.show((item >> 32) as u32, item as u32);
        }
    }
}

impl Reader {
    /// The best `limit` rows for each query, among those that are nearest in bits.
    pub(crate) fn sketched(
        &self,
        sketch: &Sketch,
        queries: &[Embedding],
        limit: usize,
        filter: &CompiledFilter<'_>,
        threads: usize,
    ) -> Result<Vec<Top>, IndexError> {
        let machine = Machine::active()?;
        let wanted = (limit * FOR_EACH_RESULT).max(sketch.rows() as usize / ONE_OF);
        let bits: Vec<_> = queries.iter().map(|query| sketch.of(query.values())).collect();
        // The rows after the sketch's last whole block are scanned.
        let covered = sketch.rows() / BLOCK as u32 * BLOCK as u32;
        let pass = Pass { sketch, machine, queries: &bits, wanted, filter };
        let nearest = self.nearest(&pass, threads);
        let mut tops = self.scan(&Queries::new(queries, self)?, limit, covered, filter, threads);
        for ((query, nearest), top) in queries.iter().zip(nearest).zip(&mut tops) {
            let query = Queries::new(std::slice::from_ref(query), self)?;
            self.compare(&query, &nearest.into_rows(), top);
        }
        Ok(tops)
    }

    /// Compares a query with rows in ascending order, so that neighbours share a page.
    fn compare(&self, query: &Queries, rows: &[u32], top: &mut Top) {
        let start = |row| self.layout().offset(Column::Vector, row) as usize;
        let mut starts = [0; TOGETHER];
        let mut products = [0; TOGETHER];
        for rows in rows.chunks(TOGETHER) {
            let (starts, products) = (&mut starts[..rows.len()], &mut products[..rows.len()]);
            starts.iter_mut().zip(rows).for_each(|(place, &row)| *place = start(row));
            query.dots_at(self.rows.signed(), starts, products);
            for (&row, &mut product) in rows.iter().zip(products) {
                top.show(Candidate { score: product as f32 * self.scale(row), row });
            }
        }
    }

    /// The rows nearest in bits. A guess at the distance of the last of them, from a few rows, keeps most
    /// others from being handled at all; a guess that was too low is found out, and done without.
    fn nearest(&self, pass: &Pass<'_>, threads: usize) -> Vec<Nearest> {
        let guesses = self.guesses(pass);
        let found = self.nearest_below(pass, &guesses, threads);
        let short = |(nearest, &guess): (&Nearest, &u64)| {
            guess != ANY && nearest.buffer.len() < nearest.limit
        };
        if found.iter().zip(&guesses).any(short) {
            return self.nearest_below(pass, &vec![ANY; pass.queries.len()], threads);
        }
        found
    }

    /// For each query a distance that, by a sample of rows, somewhat more than `wanted` rows stay below.
    fn guesses(&self, pass: &Pass<'_>) -> Vec<u64> {
        let Pass { sketch, machine, queries, wanted, filter } = *pass;
        let expected = wanted.clamp(1, CANDIDATES) as f64 / ONE_TILE_OF as f64;
        // Four standard deviations of a count: one guess in some ten thousands is too low.
        let rank = (expected + 4.0 * expected.sqrt() + 8.0) as usize;
        let mut samples = vec![Vec::new(); queries.len()];
        let covered = sketch.rows() / BLOCK as u32 * BLOCK as u32;
        for first in (0..covered).step_by(TILE_ROWS * ONE_TILE_OF) {
            let mask = filter.mask(self, first / TILE);
            for (sample, query) in samples.iter_mut().zip(queries).filter(|_| mask != 0) {
                let mut distances = [0; TILE_ROWS];
                hamming_tiles(machine, query, sketch.tile(first), &mut distances);
                let chosen = distances.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                sample.extend(chosen.map(|(_, &distance)| distance));
            }
        }
        let guess = |mut sample: Vec<u32>| match sample.len() > 2 * rank {
            true => u64::from(*sample.select_nth_unstable(rank).1 + 1) << 32,
            false => ANY,
        };
        samples.into_iter().map(guess).collect()
    }

    /// The rows nearest in bits, of those that are below the query's threshold.
    fn nearest_below(&self, pass: &Pass<'_>, thresholds: &[u64], threads: usize) -> Vec<Nearest> {
        let blocks = pass.sketch.rows() / BLOCK as u32;
        let next = AtomicU32::new(0);
        let work = || {
            let empty = |&threshold| Nearest::new(pass.wanted, threshold);
            let mut nearest: Vec<_> = thresholds.iter().map(empty).collect();
            loop {
                let taken = next.fetch_add(BLOCKS_AT_ONCE, Ordering::Relaxed);
                if taken >= blocks {
                    return nearest;
                }
                let end = blocks.min(taken + BLOCKS_AT_ONCE) * BLOCK as u32;
                for first in (taken * BLOCK as u32..end).step_by(TILE as usize) {
                    let mask = pass.filter.mask(self, first / TILE);
                    if mask != 0 {
                        let bits = pass.sketch.tile(first);
                        for (nearest, query) in nearest.iter_mut().zip(pass.queries) {
                            let mut distances = [0; TILE_ROWS];
                            hamming_tiles(pass.machine, query, bits, &mut distances);
                            nearest.show_tile(&distances, first, mask);
                        }
                    }
                }
            }
        };
        on_threads(threads, work, |all, more| {
            all.iter_mut().zip(more).for_each(|(nearest, other)| nearest.merge(other));
        })
    }
}

/// What a pass over the bits goes by.
#[derive(Clone, Copy)]
struct Pass<'a> {
    sketch: &'a Sketch,
    machine: Machine,
    /// The bits of each query.
    queries: &'a [Vec<u8>],
    wanted: usize,
    filter: &'a CompiledFilter<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};
    use crate::index::{Filter, Index, NewRow};

    const DIMENSION: usize = 32;

    fn space() -> SpaceId {
        SpaceId::from_bytes([7; 32])
    }

    /// An arbitrary direction, by the mixing function of SplitMix64.
    fn arbitrary(number: u64) -> Vec<f32> {
        let component = |at: usize| {
            let mut x = (number * DIMENSION as u64 + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((x ^ x >> 31) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..DIMENSION).map(component).collect()
    }

    fn embedding(vector: Vec<f32>) -> Embedding {
        Embedding::new(space(), Modality::Image, vector).unwrap()
    }

    /// Rows that the passes with and without a guess choose, and whether a first pass found too few.
    fn chosen(vector: impl Fn(u64) -> Vec<f32>) -> ([Vec<u32>; 2], bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i");
        let mut writer = Index::create(&path, space(), DIMENSION).unwrap();
        let rows: Vec<_> = (0..65_536u64).map(|i| (i.to_string(), embedding(vector(i)))).collect();
        let rows: Vec<NewRow> = rows.iter().map(|(k, e)| NewRow::new(k.as_bytes(), e)).collect();
        writer.append(&rows).unwrap();
        assert!(writer.build_sketch().unwrap());
        let reader = Index::open(&path).unwrap();
        let sketch = Sketch::open(&path, reader.head()).unwrap();
        let machine = Machine::active().unwrap();
        let queries = [sketch.of(embedding(vector(0)).values())];
        let all = Filter::default();
        let filter = all.compile(&reader);
        let wanted = 640;
        let pass = Pass { sketch: &sketch, machine, queries: &queries, wanted, filter: &filter };
        let guesses = reader.guesses(&pass);
        assert_ne!(guesses, [ANY]);
        let below = |thresholds: &[u64]| reader.nearest_below(&pass, thresholds, 1).remove(0);
        let short = below(&guesses).buffer.len() < wanted;
        let guessed = reader.nearest(&pass, 2).remove(0);
        ([guessed, below(&[ANY])].map(Nearest::into_rows), short)
    }

    #[test]
    fn a_guess_changes_nothing_but_the_time() {
        let ([guessed, all], short) = chosen(arbitrary);
        assert_eq!(all.len(), 640);
        assert_eq!(guessed, all);
        assert!(!short);
    }

    #[test]
    fn a_guess_that_was_too_low_is_done_without() {
        // The first six of the sampled tiles alone hold what is nearest: more than their share.
        let period = (TILE_ROWS * ONE_TILE_OF) as u64;
        let near = |i: u64| i % period < TILE_ROWS as u64 && i / period < 6;
        let ([guessed, all], short) = chosen(|i| arbitrary(if near(i) { 0 } else { i + 1 }));
        assert!(short);
        assert_eq!(guessed, all);
    }
}
