//! Vectors in and out: `.npy` for the vectors, JSON Lines for what belongs to them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::embedding::Modality;
use crate::index::filter::Filter;
use crate::index::keys::{Described, KeyReader, Keys, Line};
use crate::index::npy::{NpyReader, NpyWriter};
use crate::index::{IndexError, NewRow, Reader, Writer};

/// Rows that are imported by one commit: some megabytes, so that syncing them costs less than
/// writing them.
const BATCH: usize = 16_384;

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Vectors that were appended.
    pub rows: u64,
    /// Older rows with the same keys that they replaced.
    pub replaced: u64,
}

impl Writer {
    /// Appends the vectors of a `.npy` file, which must be of this index's space, and commits
    /// every 16384 of them. `modality` is for rows of which the keys do not say it.
    /// `progress` is told after each commit how many rows are durable.
    ///
    /// # Errors
    /// [`IndexError::Npy`], [`IndexError::Dimension`] or [`IndexError::KeyCount`] before
    /// anything is appended; errors of a row leave what was committed before it.
    pub fn import(
        &mut self,
        vectors: &Path,
        keys: &Keys,
        modality: Modality,
        mut progress: impl FnMut(u64),
    ) -> Result<Imported, IndexError> {
        let array = NpyReader::open(vectors)?;
        if array.columns() != self.dimension() {
            let what = format!("a row of {}", vectors.display());
            let (expected, found) = (self.dimension(), array.columns());
            return Err(IndexError::Dimension { what, expected, found });
        }
        let keys = KeyReader::open(keys, array.rows())?;
        let mut imported = Imported { rows: 0, replaced: 0 };
        // The next batch is read while this one is written.
        let (sender, receiver) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || read_batches(array, keys, &sender));
            for batch in receiver {
                let Batch { described, values } = batch?;
                let rows: Vec<NewRow<'_>> = described
                    .iter()
                    .zip(values.chunks_exact(self.dimension()))
                    .map(|(described, vector)| NewRow {
                        key: &described.key,
                        vector,
                        space: self.space(),
                        modality: described.modality.unwrap_or(modality),
                        tags: &described.tags,
                        time: described.time,
                        source: None,
                    })
                    .collect();
                let replaced =
                    self.append(&rows).map_err(|e| in_file(e, vectors, imported.rows))?;
                self.commit()?;
                imported.replaced += u64::from(replaced);
                imported.rows += rows.len() as u64;
                progress(imported.rows);
            }
            Ok(imported)
        })
    }
}

/// What is read ahead.
struct Batch {
    described: Vec<Described>,
    values: Vec<f32>,
}

/// Reads batches until the end, an error, or until nobody wants more.
fn read_batches(
    mut array: NpyReader,
    mut keys: KeyReader,
    sender: &SyncSender<Result<Batch, IndexError>>,
) {
    loop {
        let mut values = Vec::new();
        let batch = array.read_rows(BATCH, &mut values).and_then(|count| {
            let described = (0..count).map(|_| keys.next()).collect::<Result<_, _>>()?;
            Ok(Batch { described, values })
        });
        let last = batch.as_ref().map_or(true, |batch| batch.described.is_empty());
        let ended = batch.is_ok() && last;
        if ended || sender.send(batch).is_err() || last {
            return;
        }
    }
}

/// Names the row of the file instead of the row of the batch.
fn in_file(error: IndexError, path: &Path, before: u64) -> IndexError {
    match error {
        IndexError::BadVector { row, source } => {
            IndexError::BadRow { path: path.into(), row: before + row as u64, source }
        }
        other => other,
    }
}

impl Reader {
    /// Writes the rows that pass `filter` as a float32 matrix, and what belongs to them as
    /// JSON Lines in the same order. Returns how many there are. [`Writer::import`] reads
    /// both back.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] at the first damaged row; what the file system says.
    pub fn export(
        &self,
        vectors: &Path,
        lines: &Path,
        filter: &Filter,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, IndexError> {
        let rows = self.matching(filter)?;
        let make = |path: &Path| File::create(path).map_err(|e| IndexError::io("making", path, e));
        let to_vectors = |e| IndexError::io("writing", vectors, e);
        let to_lines = |e| IndexError::io("writing", lines, e);
        let mut array = NpyWriter::new(make(vectors)?, rows.len() as u64, self.dimension())
            .map_err(to_vectors)?;
        let mut text = BufWriter::new(make(lines)?);
        for (done, &row) in (1..).zip(&rows) {
            array.row(&self.vector(row)?).map_err(to_vectors)?;
            let line = serde_json::to_string(&Line::of(&self.entry(row)?));
            writeln!(text, "{}", line.map_err(|e| to_lines(e.into()))?).map_err(to_lines)?;
            if done % 1024 == 0 {
                progress(done);
            }
        }
        array.finish().map_err(to_vectors)?;
        text.flush().map_err(to_lines)?;
        Ok(rows.len() as u64)
    }
}
