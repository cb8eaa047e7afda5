//! One bit for each component: a file derived from the rows that makes a first pass cheap.
//!
//! A bit says whether a component lies above the mean of its column. The file covers whole
//! blocks from the first row of a generation on and never changes; rows that came later are
//! scanned exactly. A sketch that is missing or damaged costs time and never an answer.

use std::fs::File;
use std::path::Path;

use rayon::prelude::*;

use crate::index::format::{BLOCK, Column, FORMAT_VERSION, Part, u32_at, u64_at};
use crate::index::head::Head;
use crate::index::quantise;
use crate::index::storage::Storage;
use crate::index::{IndexError, Reader};
use crate::kernel::TILE_ROWS;
use crate::mapped::Map;

const MAGIC: [u8; 8] = *b"\x89SXSK\r\n\x1a";
const HEADER: usize = 4096;

/// Where things lie in a sketch file.
#[derive(Debug, Clone, Copy)]
struct Shape {
    dimension: usize,
    rows: u32,
}

impl Shape {
    /// Words of 64 bits for each row.
    fn words(self) -> usize {
        self.dimension.div_ceil(64)
    }

    /// Where the bits begin: after header and column means.
    fn bits(self) -> usize {
        (HEADER + self.dimension * 4).next_multiple_of(4096)
    }

    /// Where the checksums begin: one for each block of rows.
    fn checks(self) -> usize {
        self.bits() + self.rows as usize * self.words() * 8
    }

    fn blocks(self) -> usize {
        self.rows as usize / BLOCK
    }

    fn length(self) -> usize {
        self.checks() + self.blocks() * 4
    }

    /// The bytes of the bits of a block.
    fn block(self, block: usize) -> std::ops::Range<usize> {
        let bytes = BLOCK * self.words() * 8;
        let start = self.bits() + block * bytes;
        start..start + bytes
    }
}

/// A sketch file opened for reading.
#[derive(Debug)]
pub(crate) struct Sketch {
    map: Map,
    shape: Shape,
    centre: Vec<f32>,
}

impl Sketch {
    /// Opens the sketch of a snapshot, if there is a sound one.
    pub fn open(folder: &Path, head: &Head) -> Option<Self> {
        let path = folder.join(Part::Sketch.file_name(head.generation));
        let file = File::open(&path).ok()?;
        let map = Map::new(&file, &path, file.metadata().ok()?.len()).ok()?;
        let bytes = map.bytes();
        let header = bytes.get(..HEADER)?;
        let shape = Shape { dimension: head.layout.dimension(), rows: u32_at(header, 24) };
        // Before any of the products below, which a 32-bit machine could not hold.
        let bits = u64::from(shape.rows) * shape.words() as u64 * 8;
        let fits = bits < bytes.len() as u64
            && header[..8] == MAGIC
            && u32_at(header, 8) == FORMAT_VERSION
            && u32_at(header, 12) as usize == shape.dimension
            && u64_at(header, 16) == head.generation
            && shape.rows <= head.rows
            && shape.rows.is_multiple_of(BLOCK as u32)
            && crc32c::crc32c(&header[..HEADER - 4]) == u32_at(header, HEADER - 4)
            && bytes.len() == shape.length()
            && crc32c::crc32c(&bytes[HEADER..shape.bits()]) == u32_at(header, 28);
        if !fits || map.intact().is_err() {
            return None;
        }
        let (centre, _) = bytes[HEADER..HEADER + 4 * shape.dimension].as_chunks::<4>();
        let centre = centre.iter().map(|x| f32::from_le_bytes(*x)).collect();
        Some(Self { map, shape, centre })
    }

    /// How many rows the sketch covers.
    pub fn rows(&self) -> u32 {
        self.shape.rows
    }

    /// The bits of the tile of rows that begins with row `first`: the first words of all of
    /// them, then the second ones, and so on.
    pub fn tile(&self, first: u32) -> &[u8] {
        let width = self.shape.words() * 8;
        let start = self.shape.bits() + first as usize * width;
        &self.map.bytes()[start..start + TILE_ROWS * width]
    }

    /// The bits of a vector.
    pub fn of(&self, vector: &[f32]) -> Vec<u8> {
        words_of(vector, &self.centre).flatten().collect()
    }

    /// The mapped file.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Where the blocks lie that do not fit their checksums, and their first rows.
    pub fn damage(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let bytes = self.map.bytes();
        (0..self.shape.blocks()).filter_map(move |block| {
            let range = self.shape.block(block);
            let stored = u32_at(bytes, self.shape.checks() + block * 4);
            let first = (block * BLOCK) as u32;
            (crc32c::crc32c(&bytes[range.clone()]) != stored).then_some((range.start as u64, first))
        })
    }

    /// How many rows the sketch of a snapshot of `rows` rows covers: whole blocks.
    pub fn coverable(rows: u32) -> u32 {
        rows - rows % BLOCK as u32
    }

    /// Writes the sketch of a snapshot, replacing an older one.
    pub fn build(reader: &Reader, storage: &dyn Storage) -> Result<(), IndexError> {
        let rows = Self::coverable(reader.head().rows);
        let shape = Shape { dimension: reader.dimension(), rows };
        let centre = column_means(reader);
        let bits = (0..shape.blocks())
            .into_par_iter()
            .map(|block| bits_of_block(reader, (block * BLOCK) as u32, &centre));
        let path = reader.folder().join(Part::Sketch.file_name(reader.head().generation));
        let temporary = path.with_extension("new");
        let written = shape.write(reader, &temporary, &centre, bits, storage);
        let in_place = written.and_then(|()| {
            storage.rename(&temporary, &path).map_err(|e| IndexError::io("renaming", &path, e))
        });
        // What is half made would only take up room.
        in_place.inspect_err(|_| drop(storage.remove(&temporary)))?;
        let folder = reader.folder();
        storage.sync_folder(folder).map_err(|e| IndexError::io("syncing", folder, e))
    }
}

impl Shape {
    /// Writes and syncs a sketch of which `bits` gives the blocks.
    fn write(
        self,
        reader: &Reader,
        path: &Path,
        centre: &[f32],
        bits: impl IndexedParallelIterator<Item = Vec<u8>> + Clone,
        storage: &dyn Storage,
    ) -> Result<(), IndexError> {
        let io = |e| IndexError::io("writing", path, e);
        let mut file = storage.open(path, true).map_err(io)?;
        file.write_at(0, &self.front(centre, reader.head().generation)).map_err(io)?;
        let mut checks = Vec::with_capacity(self.blocks() * 4);
        // A few blocks at a time: the whole would be an eighth of the rows in memory.
        for start in (0..self.blocks()).step_by(64) {
            let end = self.blocks().min(start + 64);
            let part: Vec<Vec<u8>> = bits.clone().skip(start).take(end - start).collect();
            for (block, bits) in (start..end).zip(part) {
                checks.extend(crc32c::crc32c(&bits).to_le_bytes());
                file.write_at(self.block(block).start as u64, &bits).map_err(io)?;
            }
        }
        reader.rows.intact()?;
        file.write_at(self.checks() as u64, &checks).map_err(io)?;
        file.sync().map_err(io)
    }

    /// Header and column means.
    fn front(self, centre: &[f32], generation: u64) -> Vec<u8> {
        let mut front = vec![0; self.bits()];
        for (cell, x) in front[HEADER..].chunks_exact_mut(4).zip(centre) {
            cell.copy_from_slice(&x.to_le_bytes());
        }
        let check = crc32c::crc32c(&front[HEADER..]);
        front[..8].copy_from_slice(&MAGIC);
        front[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        front[12..16].copy_from_slice(&(self.dimension as u32).to_le_bytes());
        front[16..24].copy_from_slice(&generation.to_le_bytes());
        front[24..28].copy_from_slice(&self.rows.to_le_bytes());
        front[28..32].copy_from_slice(&check.to_le_bytes());
        let check = crc32c::crc32c(&front[..HEADER - 4]);
        front[HEADER - 4..HEADER].copy_from_slice(&check.to_le_bytes());
        front
    }
}

/// One bit for each component, in whole words.
fn words_of(vector: &[f32], centre: &[f32]) -> impl Iterator<Item = [u8; 8]> {
    vector.chunks(64).zip(centre.chunks(64)).map(|(vector, centre)| {
        let above = vector.iter().zip(centre).enumerate();
        above.fold(0u64, |word, (at, (x, mean))| word | u64::from(x > mean) << at).to_le_bytes()
    })
}

/// The bits of a block's rows, tile by tile as [`Sketch::tile`] reads them.
fn bits_of_block(reader: &Reader, first: u32, centre: &[f32]) -> Vec<u8> {
    let words = centre.len().div_ceil(64);
    let mut vector = vec![0.0; centre.len()];
    let mut bits = vec![0; BLOCK * words * 8];
    for (tile, bits) in (0..).zip(bits.chunks_exact_mut(TILE_ROWS * words * 8)) {
        let (cells, _) = bits.as_chunks_mut::<8>();
        for at in 0..TILE_ROWS {
            let row = first + tile * TILE_ROWS as u32 + at as u32;
            let row_cells = reader.cell(Column::Vector, row);
            quantise::restore(row_cells, reader.scale(row), &reader.rotation, &mut vector);
            for (word, bits) in words_of(&vector, centre).enumerate() {
                cells[word * TILE_ROWS + at] = bits;
            }
        }
    }
    bits
}

/// The mean of each component over the rows that were not removed.
fn column_means(reader: &Reader) -> Vec<f32> {
    let rows = reader.head().rows;
    let dimension = reader.dimension();
    let blocks = (0..rows.div_ceil(BLOCK as u32)).into_par_iter().map(|block| {
        let mut sums = vec![0f64; dimension];
        let first = block * BLOCK as u32;
        for row in first..rows.min(first + BLOCK as u32) {
            if !reader.log.removed().get(row) {
                let scale = f64::from(reader.scale(row));
                for (sum, &cell) in sums.iter_mut().zip(reader.cell(Column::Vector, row)) {
                    *sum += f64::from(cell as i8) * scale;
                }
            }
        }
        sums
    });
    // Collected first: a parallel sum of floats would depend on the threads.
    let mut total = vec![0f64; dimension];
    for sums in blocks.collect::<Vec<_>>() {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    let live = f64::from(reader.len().max(1));
    let mut means: Vec<f32> = total.iter().map(|sum| (sum / live) as f32).collect();
    // The rows are rotated, and the sketch is not: what is alike in a component of a model
    // that was trained so tells more than a mixture of all.
    reader.rotation.undo(&mut means);
    means
}
