//! The exact scan: every row that passes the filter, several queries at once.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::embedding::Embedding;
use crate::index::filter::{CompiledFilter, Filter};
use crate::index::format::{BLOCK, Column};
use crate::index::quantise;
use crate::index::top::{Candidate, MAX_RESULTS, Top};
use crate::index::{IndexError, Reader};
use crate::kernel::{DotQueries, Machine, Scratch};

/// Blocks that a thread takes at once: about 6 MB of rows of 384.
const BLOCKS_AT_ONCE: u32 = 16;
/// Most queries that are compared with a row while it is in the cache.
const QUERIES: usize = 16;
/// Rows that are decided on together.
const TILE: usize = 64;
/// An index smaller than this is scanned by one thread, as waking another takes longer.
const BYTES_FOR_THREADS: usize = 4 << 20;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanOptions {
    /// Threads to use; 0 means all.
    pub threads: usize,
    /// First compares one bit for each component and looks only at the best rows then. Needs
    /// a sketch ([`crate::index::Writer::build_sketch`]) and is exact where there is none.
    pub fast: bool,
    /// Compares the best rows with the float query again, which the scan rounds to int8.
    pub rescore: bool,
}

impl Default for ScanOptions {
    /// All threads, exact, rescored.
    fn default() -> Self {
        Self { threads: 0, fast: false, rescore: true }
    }
}

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Number of the row; [`Reader::entry`] says what it is.
    pub row: u32,
    /// Cosine similarity to the query, in `[-1, 1]`.
    pub similarity: f32,
}

/// Queries as the rows are: rotated, and rounded to int8. At most [`QUERIES`] of them.
pub(crate) struct Queries {
    kernel: DotQueries,
    scales: Vec<f32>,
    rotated: Vec<Vec<f32>>,
}

impl Queries {
    pub fn new(queries: &[Embedding], reader: &Reader) -> Result<Self, IndexError> {
        let stride = reader.layout().stride();
        let rotate = |query: &Embedding| {
            let mut rotated = query.values().to_vec();
            reader.rotation.apply(&mut rotated);
            rotated
        };
        let rotated: Vec<Vec<f32>> = queries.iter().map(rotate).collect();
        let mut bytes = vec![0u8; queries.len() * stride];
        let rows = rotated.iter().zip(bytes.chunks_exact_mut(stride));
        let scales = rows.map(|(rotated, row)| quantise::round(rotated, row)).collect();
        let rows: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
        Ok(Self { kernel: DotQueries::new(Machine::active()?, &rows, stride), scales, rotated })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Dot products with `count` rows: `products[row * self.len() + query]`.
    fn dots<'a>(&self, rows: &[i8], count: usize, buffers: &'a mut Buffers) -> &'a [i32] {
        let products = &mut buffers.products[..self.len() * count];
        self.kernel.dot_rows(rows, products, &mut buffers.scratch);
        products
    }

    /// Dot products of the first query with the rows that begin at `starts` in `data`.
    pub fn dots_at(&self, data: &[i8], starts: &[usize], out: &mut [i32]) {
        self.kernel.dot_rows_at(data, starts, out);
    }
}

/// Working memory of a thread.
struct Buffers {
    products: Vec<i32>,
    scratch: Scratch,
}

impl Reader {
    /// For each query the `k` most similar rows that pass `filter`, best first.
    ///
    /// The rows are compared as int8 with an int8 query, all of them, in exact integer
    /// arithmetic; with [`ScanOptions::rescore`] a few more than `k` of the best are then
    /// compared with the float query. Rows with equal similarity come in the order of their
    /// numbers, so that the answer does not depend on threads. `k = 0` gives no hits, a `k`
    /// beyond the number of rows gives all rows.
    ///
    /// # Errors
    /// [`IndexError::ForeignSpace`], [`IndexError::Dimension`] or
    /// [`IndexError::TooManyResults`] before a row is touched; [`IndexError::Damaged`] when a
    /// row among the best does not fit its checksum.
    pub fn search(
        &self,
        queries: &[Embedding],
        k: usize,
        filter: &Filter,
        options: &ScanOptions,
    ) -> Result<Vec<Vec<Hit>>, IndexError> {
        if k > MAX_RESULTS {
            return Err(IndexError::TooManyResults { most: MAX_RESULTS, found: k });
        }
        for query in queries {
            self.expect_space(query.space())?;
            if query.values().len() != self.dimension() {
                let (expected, found) = (self.dimension(), query.values().len());
                return Err(IndexError::Dimension { what: "the query".into(), expected, found });
            }
        }
        if k == 0 || self.is_empty() {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let filter = filter.compile(self);
        let mut found = Vec::with_capacity(queries.len());
        for queries in queries.chunks(QUERIES) {
            let small = Queries::new(queries, self)?;
            // The margin catches rows that only rounding the query pushed below the k-th.
            let limit = if options.rescore { k + k.max(32) } else { k };
            let tops = match &self.sketch {
                Some(sketch) if options.fast => {
                    self.sketched(sketch, queries, limit, &filter, options.threads)?
                }
                _ => self.scan(&small, limit, 0, &filter, options.threads),
            };
            self.rows.intact()?;
            self.keys.intact()?;
            for ((rotated, top), scale) in small.rotated.iter().zip(tops).zip(small.scales) {
                let rescore = options.rescore.then_some(&rotated[..]);
                found.push(self.finish(top, k, scale, rescore)?);
            }
        }
        Ok(found)
    }

    /// Turns candidates into hits, checking each row that is handed out.
    fn finish(
        &self,
        top: Top,
        k: usize,
        scale: f32,
        rescore: Option<&[f32]>,
    ) -> Result<Vec<Hit>, IndexError> {
        let mut best = top.into_sorted();
        for candidate in &mut best {
            let row = candidate.row;
            self.check_row(row)?;
            candidate.score = match rescore {
                Some(rotated) => {
                    let cells = self.cell(Column::Vector, row);
                    quantise::similarity(rotated, cells, self.scale(row))
                }
                None => (candidate.score * scale).clamp(-1.0, 1.0),
            };
        }
        self.rows.intact()?;
        if rescore.is_some() {
            best.sort_unstable_by(|a, b| b.cmp(a));
        }
        best.truncate(k);
        Ok(best.iter().map(|&Candidate { score, row }| Hit { row, similarity: score }).collect())
    }

    /// The best `limit` rows from row `first` on (a multiple of a block), for each query.
    pub(crate) fn scan(
        &self,
        queries: &Queries,
        limit: usize,
        first: u32,
        filter: &CompiledFilter<'_>,
        threads: usize,
    ) -> Vec<Top> {
        let blocks = self.head().rows.div_ceil(BLOCK as u32);
        let start = first / BLOCK as u32;
        let bytes = (blocks - start.min(blocks)) as usize * self.layout().block_bytes();
        let next = AtomicU32::new(start);
        let work = || {
            let mut tops: Vec<Top> = (0..queries.len()).map(|_| Top::new(limit)).collect();
            let products = vec![0; queries.len() * TILE];
            let mut buffers = Buffers { products, scratch: Scratch::new() };
            loop {
                let taken = next.fetch_add(BLOCKS_AT_ONCE, Ordering::Relaxed);
                if taken >= blocks {
                    return tops;
                }
                for block in taken..blocks.min(taken + BLOCKS_AT_ONCE) {
                    self.scan_block(queries, block, filter, &mut buffers, &mut tops);
                }
            }
        };
        on_threads(if bytes < BYTES_FOR_THREADS { 1 } else { threads }, work, |all, more| {
            all.iter_mut().zip(&more).for_each(|(top, other)| top.merge(other));
        })
    }

    /// Shows every row of a block that passes the filter to each query's `tops`.
    fn scan_block(
        &self,
        queries: &Queries,
        block: u32,
        filter: &CompiledFilter<'_>,
        buffers: &mut Buffers,
        tops: &mut [Top],
    ) {
        let first = block * BLOCK as u32;
        let tiles = (self.head().rows - first).min(BLOCK as u32).div_ceil(TILE as u32);
        for tile in 0..tiles {
            let mut mask = filter.mask(self, first / TILE as u32 + tile);
            while mask != 0 {
                // The next run of rows that pass.
                let skip = mask.trailing_zeros();
                let length = (mask >> skip).trailing_ones();
                mask &= u64::MAX.checked_shl(skip + length).unwrap_or(0);
                let run = first + tile * TILE as u32 + skip;
                self.scan_run(queries, run, length as usize, buffers, tops);
            }
        }
    }

    /// Compares up to 64 neighbouring rows with every query.
    fn scan_run(
        &self,
        queries: &Queries,
        first: u32,
        length: usize,
        buffers: &mut Buffers,
        tops: &mut [Top],
    ) {
        let layout = self.layout();
        let (stride, start) = (layout.stride(), layout.offset(Column::Vector, first) as usize);
        let rows = &self.rows.signed()[start..start + length * stride];
        let start = layout.offset(Column::Scale, first) as usize;
        let (scales, _) = self.rows.bytes()[start..start + length * 4].as_chunks::<4>();
        let products = queries.dots(rows, length, buffers);
        Top::show_run(tops, first, products, scales);
    }
}

/// Runs `work` on some threads (0: all) and folds what they bring.
pub(crate) fn on_threads<T: Send>(
    threads: usize,
    work: impl Fn() -> T + Sync,
    fold: impl Fn(&mut T, T),
) -> T {
    let threads = match threads {
        0 => rayon::current_num_threads(),
        some => some.min(rayon::current_num_threads()),
    };
    if threads <= 1 {
        return work();
    }
    let mut rest: Vec<Option<T>> = (1..threads).map(|_| None).collect();
    let mut first = rayon::in_place_scope(|scope| {
        for slot in &mut rest {
            scope.spawn(|_| *slot = Some(work()));
        }
        work()
    });
    rest.into_iter().flatten().for_each(|more| fold(&mut first, more));
    first
}
