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
    fn new(limit: usize) -> Self {
        Self { buffer: Box::default(), limit: limit.clamp(1, CANDIDATES), threshold: u64::MAX }
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
            let limit = (self.threshold >> 32) as u32;
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
        let nearest = self.nearest(sketch, machine, &bits, wanted, filter, threads);
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

    fn nearest(
        &self,
        sketch: &Sketch,
        machine: Machine,
        queries: &[Vec<u8>],
        wanted: usize,
        filter: &CompiledFilter<'_>,
        threads: usize,
    ) -> Vec<Nearest> {
        let blocks = sketch.rows() / BLOCK as u32;
        let next = AtomicU32::new(0);
        let work = || {
            let mut nearest: Vec<_> = queries.iter().map(|_| Nearest::new(wanted)).collect();
            loop {
                let taken = next.fetch_add(BLOCKS_AT_ONCE, Ordering::Relaxed);
                if taken >= blocks {
                    return nearest;
                }
                let end = blocks.min(taken + BLOCKS_AT_ONCE) * BLOCK as u32;
                for first in (taken * BLOCK as u32..end).step_by(TILE as usize) {
                    let mask = filter.mask(self, first / TILE);
                    if mask != 0 {
                        let bits = sketch.tile(first);
                        for (nearest, query) in nearest.iter_mut().zip(queries) {
                            let mut distances = [0; TILE_ROWS];
                            hamming_tiles(machine, query, bits, &mut distances);
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
