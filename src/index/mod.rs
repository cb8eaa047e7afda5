//! The flat index: a folder of memory-mapped int8 rows, scanned exactly, that loses nothing.
//!
//! A row is a vector with a key (any bytes, usually a path), tags, a time stamp and the file
//! that it was made from. One [`Writer`] at a time appends and removes; what it commits
//! survives a kill and a power cut at any moment. Any number of [`Reader`]s, in any number of
//! processes, search the snapshot that was there when they were opened. The files are
//! described in `docs/format.md`.
//!
//! ```
//! use sextant::index::{Filter, Index, NewRow, ScanOptions, Tags, Writer};
//! use sextant::{Embedding, Modality, SpaceId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let folder = temporary.path().join("photos.index");
//! // With a model these come from its encoder, which knows the space.
//! let space = SpaceId::from_bytes([7; 32]);
//! let beach = Embedding::new(space, Modality::Image, vec![0.9, 0.1, 0.0, 0.2])?;
//! let forest = Embedding::new(space, Modality::Image, vec![0.0, 0.8, 0.5, 0.1])?;
//!
//! let mut writer = Index::create(&folder, space, 4)?;
//! let tags = Tags::new(["trip=coast".parse()?])?;
//! writer.append(&[
//!     NewRow { tags: &tags, time: Some(1_700_000_000_000), ..NewRow::new(b"beach.jpg", &beach) },
//!     NewRow::new(b"forest.jpg", &forest),
//! ])?;
//! writer.commit()?; // From here on nothing can lose them.
//! drop(writer);
//!
//! let reader = Index::open(&folder)?;
//! let query = Embedding::new(space, Modality::Text, vec![1.0, 0.2, 0.0, 0.1])?;
//! let coast = Filter { tags: vec!["trip=coast".parse()?], ..Filter::default() };
//! for filter in [Filter::default(), coast] {
//!     let hits = reader.search(&[query.clone()], 10, &filter, &ScanOptions::default())?;
//!     for hit in &hits[0] {
//!         let entry = reader.entry(hit.row)?;
//!         println!("{:.3} {}", hit.similarity, String::from_utf8_lossy(&entry.key));
//!     }
//!     assert_eq!(reader.entry(hits[0][0].row)?.key, b"beach.jpg");
//! }
//!
//! // Later: the same key again replaces the row, and compaction gives back its room.
//! let mut writer = Writer::open(&folder, space)?;
//! writer.append(&[NewRow::new(b"beach.jpg", &forest)])?;
//! writer.remove(b"forest.jpg")?;
//! writer.compact(false)?;
//! assert_eq!(Index::open(&folder)?.len(), 1);
//! # Ok(())
//! # }
//! ```

mod batch;
mod compact;
mod create;
mod error;
mod fast;
#[cfg(test)]
mod faults;
mod files;
mod filter;
mod format;
mod formula;
mod groups;
mod head;
mod keys;
mod lock;
mod log;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod quantise;
mod query;
mod reader;
mod record;
mod rotate;
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
pub use compact::Compacted;
pub use error::IndexError;
pub use filter::Filter;
pub use format::{FORMAT_VERSION, MAX_DIMENSION, MAX_KEY, MAX_ROWS};
pub use formula::{Formula, is_operator, parse_formula};
pub use keys::Keys;
pub use npy::{NpyReader, NpyWriter};
pub use query::{MAX_TERMS, QueryError, Reading, Shown, Term, parse_query};
pub use reader::{Entry, Info, Reader};
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
