//! The flat index: a folder of memory-mapped int8 rows, scanned exactly, that loses nothing.
//!
//! (Written at the end.)

mod batch;
mod combine;
mod compact;
mod create;
mod error;
mod fast;
#[cfg(test)]
mod faults;
mod files;
mod filter;
mod format;
mod head;
mod keys;
mod lock;
mod log;
mod mmap;
mod npy;
mod quantise;
mod query;
mod reader;
mod record;
mod scan;
mod sketch;
mod storage;
mod tags;
mod top;
mod transfer;
mod verify;
mod writer;

use std::path::Path;

use crate::embedding::SpaceId;

pub use batch::NewRow;
pub use combine::{Means, combine};
pub use compact::Compacted;
pub use error::IndexError;
pub use filter::Filter;
pub use format::{FORMAT_VERSION, MAX_DIMENSION, MAX_KEY, MAX_ROWS};
pub use keys::Keys;
pub use npy::{NpyReader, NpyWriter};
pub use query::{MAX_TERMS, QueryError, Reading, Shown, Term, parse_query};
pub use reader::{Entry, Reader};
pub use record::{ShortDigest, Source, content_digest};
pub use scan::{Hit, ScanOptions};
pub use tags::{MAX_TAG_NAME, MAX_TAG_VALUE, MAX_TAGS, Tag, Tags};
pub use top::MAX_RESULTS;
pub use transfer::Imported;
pub use verify::{Damage, Report};
pub use writer::Writer;

/// Ways to an index.
#[derive(Debug)]
pub struct Index;

impl Index {
    /// Opens the newest committed state of an index for reading.
    ///
    /// # Errors
    /// [`IndexError`] when the folder is not an index, or a file is damaged, truncated or of
    /// a newer version. No row is touched before that is known.
    pub fn open(folder: impl AsRef<Path>) -> Result<Reader, IndexError> {
        Reader::open(folder.as_ref())
    }

    /// Makes an empty index and opens it for writing. The folder is made if need be; if it
    /// exists it must be empty.
    ///
    /// # Errors
    /// [`IndexError::Exists`], [`IndexError::NotEmpty`], [`IndexError::DimensionLimit`], or
    /// what the file system says.
    pub fn create(
        folder: impl AsRef<Path>,
        space: SpaceId,
        dimension: usize,
    ) -> Result<Writer, IndexError> {
        Writer::create(folder.as_ref(), space, dimension)
    }
}
