//! Compaction: a new generation without the removed rows, put in place by one commit.

use std::collections::HashMap;

use crate::index::batch::Piece;
use crate::index::files::{Files, OpenFile};
use crate::index::format::{BLOCK, Column, HEAD, Layout};
use crate::index::head::Head;
use crate::index::record::row_check;
use crate::index::tags::Group;
use crate::index::{IndexError, Reader, Writer, create, log};

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Rows of the new generation.
    pub rows: u32,
    /// Removed rows that no longer take room.
    pub removed: u32,
    /// Rows that were left out because they are damaged.
    pub damaged: u32,
}

impl Writer {
    /// Commits, then rewrites the index without removed rows. Readers keep the snapshot they
    /// have; a crash at any moment leaves the old generation or the new one. Needs as much
    /// free space as the rows that stay.
    ///
    /// With `drop_damaged`, rows that do not fit their checksums are left out; without it
    /// they are an error and nothing changes.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] with the first such row; what the file system says, after
    /// which the writer is closed.
    pub fn compact(&mut self, drop_damaged: bool) -> Result<Compacted, IndexError> {
        self.commit()?;
        let reader = Reader::open(&self.folder)?;
        let (rows, damaged) = rows_to_keep(&reader, drop_damaged)?;
        let removed = reader.head().rows - reader.len();
        let result = self.write_generation(&reader, &rows);
        self.guard(result)?;
        self.reload()?;
        self.build_sketch()?;
        Ok(Compacted { rows: rows.len() as u32, removed, damaged })
    }

    fn write_generation(&mut self, reader: &Reader, rows: &[u32]) -> Result<(), IndexError> {
        let storage = self.storage.clone();
        let old = self.committed;
        let generation = old.generation + 1;
        let (files, copy) = self.copy_rows(reader, rows, generation).inspect_err(|_| {
            // No header names them yet, and on a full disk the room is wanted.
            create::remove_leftovers(&self.folder, old.generation, &*storage);
        })?;
        self.files = files;
        let state = Head {
            generation,
            rows: rows.len() as u32,
            live: rows.len() as u32,
            key_bytes: copy.key_bytes,
            log_bytes: copy.log.len() as u64,
            ..old
        };
        // Once for each pair: the old files may go only when no slot names them any more.
        self.commit_head(state)?;
        self.commit_head(state)?;
        create::remove_leftovers(&self.folder, generation, &*storage);
        Ok(())
    }

    /// Writes the files of a generation and makes them durable.
    fn copy_rows(
        &self,
        reader: &Reader,
        rows: &[u32],
        generation: u64,
    ) -> Result<(Files, Copy), IndexError> {
        let head = OpenFile::open(&*self.storage, self.folder.join(HEAD), false)?;
        let mut files = Files::open(&*self.storage, &self.folder, generation, head, true)?;
        let mut copy = Copy::default();
        for (at, rows) in rows.chunks(BLOCK).enumerate() {
            let (piece, keys) = copy.piece(reader, (at * BLOCK) as u32, rows)?;
            files.write_pieces(self.committed.layout, &[piece])?;
            files.keys.write(copy.key_bytes, &keys)?;
            copy.key_bytes += keys.len() as u64;
        }
        files.log.write(0, &copy.log)?;
        for file in [&mut files.rows, &mut files.keys, &mut files.log] {
            file.sync()?;
        }
        self.storage
            .sync_folder(&self.folder)
            .map_err(|e| IndexError::io("syncing", &self.folder, e))?;
        Ok((files, copy))
    }
}

/// The rows that were not removed and are whole, and how many were not whole.
fn rows_to_keep(reader: &Reader, drop_damaged: bool) -> Result<(Vec<u32>, u32), IndexError> {
    let (mut keep, mut damaged) = (Vec::with_capacity(reader.len() as usize), 0);
    for row in (0..reader.head().rows).filter(|&row| !reader.log.removed().get(row)) {
        let whole =
            reader.check_row(row).and_then(|()| reader.key(row, &reader.record(row)).map(|_| ()));
        match whole {
            Ok(()) => keep.push(row),
            Err(IndexError::Damaged { .. }) if drop_damaged => damaged += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((keep, damaged))
}

/// What is known while rows are copied.
#[derive(Default)]
struct Copy {
    log: Vec<u8>,
    key_bytes: u64,
    /// New numbers of the groups, by old numbers.
    numbers: HashMap<u32, u32>,
    groups: HashMap<Group, u32>,
}

impl Copy {
    /// Copies rows of the old generation to row `first` and following, and their keys.
    fn piece(
        &mut self,
        reader: &Reader,
        first: u32,
        rows: &[u32],
    ) -> Result<(Piece, Vec<u8>), IndexError> {
        let mut columns: [Vec<u8>; Layout::COLUMNS.len()] = Default::default();
        let mut keys = Vec::new();
        for (new, &row) in (first..).zip(rows) {
            let mut record = reader.record(row);
            let key = reader.key(row, &record)?;
            record.key_offset = self.key_bytes + keys.len() as u64;
            keys.extend_from_slice(key);
            let group = self.renumber(reader, row)?.to_le_bytes();
            let record = record.encode();
            let cells = [
                reader.cell(Column::Vector, row),
                reader.cell(Column::Scale, row),
                reader.cell(Column::Time, row),
                &group,
                &record,
            ];
            let check = row_check(new, cells).to_le_bytes();
            for (column, cell) in columns.iter_mut().zip(cells.into_iter().chain([&check[..]])) {
                column.extend_from_slice(cell);
            }
        }
        reader.rows.intact()?;
        Ok((Piece { first, columns, digests: vec![[0; 16]; rows.len()] }, keys))
    }

    /// The number of a row's group in the new generation, which keeps used groups only.
    fn renumber(&mut self, reader: &Reader, row: u32) -> Result<u32, IndexError> {
        let old = reader.group(row);
        if let Some(&new) = self.numbers.get(&old) {
            return Ok(new);
        }
        let group = reader
            .log
            .group(old)
            .ok_or_else(|| reader.damaged(row, Column::Group, "the tag group does not exist"))?;
        let next = self.groups.len() as u32;
        let new = *self.groups.entry(group.clone()).or_insert(next);
        if new == next {
            log::put_group(&group, &mut self.log);
        }
        self.numbers.insert(old, new);
        Ok(new)
    }
}
