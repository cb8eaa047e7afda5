//! The open files of a writer, with names for its errors.

use std::path::{Path, PathBuf};

use crate::index::IndexError;
use crate::index::batch::Piece;
use crate::index::format::{Layout, Part};
use crate::index::head::{Head, pair_offset};
use crate::index::storage::{Storage, StorageFile};

/// The open files of one generation, and the header.
pub(crate) struct Files {
    pub head: OpenFile,
    pub rows: OpenFile,
    pub keys: OpenFile,
    pub log: OpenFile,
}

/// A file and the name that errors give.
pub(crate) struct OpenFile {
    file: Box<dyn StorageFile>,
    path: PathBuf,
}

impl OpenFile {
    /// Opens or makes a file.
    pub fn open(storage: &dyn Storage, path: PathBuf, fresh: bool) -> Result<Self, IndexError> {
        match storage.open(&path, fresh) {
            Ok(file) => Ok(Self { file, path }),
            Err(e) => Err(IndexError::io("opening for writing", &path, e)),
        }
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), IndexError> {
        let written = self.file.write_at(offset, bytes);
        written.map_err(|e| IndexError::io("writing", &self.path, e))
    }

    /// Makes the file at least so long.
    pub fn grow(&mut self, length: u64) -> Result<(), IndexError> {
        let grown = self.file.len().and_then(|now| match now < length {
            true => self.file.set_len(length),
            false => Ok(()),
        });
        grown.map_err(|e| IndexError::io("growing", &self.path, e))
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<(), IndexError> {
        self.file.sync().map_err(|e| IndexError::io("syncing", &self.path, e))
    }
}

impl Files {
    /// Opens the data files of a generation, emptying them if `fresh`, next to the header.
    pub fn open(
        storage: &dyn Storage,
        folder: &Path,
        generation: u64,
        head: OpenFile,
        fresh: bool,
    ) -> Result<Self, IndexError> {
        let open =
            |part: Part| OpenFile::open(storage, folder.join(part.file_name(generation)), fresh);
        Ok(Self { head, rows: open(Part::Rows)?, keys: open(Part::Keys)?, log: open(Part::Log)? })
    }

    /// Writes pieces of rows, column by column.
    pub fn write_pieces(&mut self, layout: Layout, pieces: &[Piece]) -> Result<(), IndexError> {
        for piece in pieces {
            let count = piece.digests.len() as u32;
            self.rows.grow(layout.file_bytes(piece.first + count))?;
            for (column, bytes) in Layout::COLUMNS.into_iter().zip(&piece.columns) {
                self.rows.write(layout.offset(column, piece.first), bytes)?;
            }
        }
        Ok(())
    }

    /// Makes rows and keys durable, both at once: waiting for the disk is most of it.
    pub fn sync_rows(&mut self) -> Result<(), IndexError> {
        let Self { rows, keys, .. } = self;
        let (rows, keys) = std::thread::scope(|scope| {
            let keys = scope.spawn(|| keys.sync());
            (rows.sync(), keys.join())
        });
        rows?;
        keys.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Writes the header of a state whose data is durable, and makes it durable.
    pub fn write_head(&mut self, head: &Head) -> Result<(), IndexError> {
        self.head.write(pair_offset(head.sequence), &head.pair())?;
        self.head.sync()
    }
}
