//! Search over what the watch keeps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sextant::Encoder;
use sextant::index::{Filter, Index, IndexError};

use super::super::super::output::six_digits;
use super::super::super::query::{Query, TermError};
use super::super::super::search::find;
use super::super::super::thumbnail;
use super::super::outputs::Surroundings;

/// Most results.
const MOST: usize = 200;
/// Longest query, in bytes.
const LONGEST: usize = 1000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Nothing is kept.
    #[error("this watch keeps nothing: start it with --index DIR")]
    NoIndex,
    /// The query is too long.
    #[error("a query is limited to {LONGEST} bytes")]
    TooLong,
    /// There is no such row.
    #[error("what you want more of is not in the index any more")]
    NoSuchKey,
    /// The query has no meaning.
    #[error(transparent)]
    Query(#[from] TermError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Another search is being made.
    #[error("another search is being made: try again in a moment")]
    Busy,
}

impl SearchError {
    /// The status that tells the client.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoIndex | Self::NoSuchKey => 404,
            Self::TooLong | Self::Query(_) => 422,
            Self::Index(_) | Self::Busy => 503,
        }
    }
}

/// What to look for.
#[derive(Debug)]
pub enum Wanted<'a> {
    /// Texts, added and subtracted.
    Text(&'a str),
    /// More of what this row shows.
    Like(&'a str),
}

/// Searches the index of a watch.
pub struct Searcher {
    encoder: Arc<Encoder>,
    folder: Option<PathBuf>,
    /// One at a time: a search uses all cores, and the watch wants them too.
    busy: Mutex<()>,
}

impl Searcher {
    /// For the index of a watch, if it has one.
    pub fn new(surroundings: &Surroundings<'_>) -> Self {
        let folder = surroundings.index.map(PathBuf::from);
        Self { encoder: Arc::clone(surroundings.encoder), folder, busy: Mutex::new(()) }
    }

    /// Whether there is anything to search.
    pub fn has_index(&self) -> bool {
        self.folder.is_some()
    }

    /// The `most` rows that fit best, of those kept since a time in milliseconds.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search(
        &self,
        wanted: &Wanted<'_>,
        since: Option<i64>,
        most: usize,
    ) -> Result<Value, SearchError> {
        let folder = self.folder.as_ref().ok_or(SearchError::NoIndex)?;
        let Ok(_busy) = self.busy.try_lock() else { return Err(SearchError::Busy) };
        let reader = Index::open(folder)?;
        let query = match wanted {
            Wanted::Text(text) if text.len() > LONGEST => return Err(SearchError::TooLong),
            Wanted::Text(text) => Query::of_texts(text, &self.encoder, &reader)?,
            Wanted::Like(key) => {
                let row = reader.find(key.as_bytes())?.ok_or(SearchError::NoSuchKey)?;
                Query { point: reader.embedding(row)?, is_single: true }
            }
        };
        let filter = Filter { since, ..Filter::default() };
        let found = find(&query, &reader, &self.encoder, &filter, most.min(MOST), false)?;
        let found = found.into_iter().map(|found| {
            let key = String::from_utf8_lossy(&found.entry.key);
            json!({
                "rank": found.rank,
                "key": key,
                "score": found.score.map(six_digits),
                "similarity": six_digits(found.similarity),
                "time": found.entry.time,
                "thumbnail": thumbnail::path(folder, &found.entry.key).is_file(),
            })
        });
        Ok(json!({ "rows": reader.len(), "found": found.collect::<Vec<_>>() }))
    }

    /// The small picture of a row, if one is kept.
    pub fn thumbnail(&self, key: &str) -> Option<Vec<u8>> {
        let folder = self.folder.as_ref()?;
        thumbnail::read(folder, key.as_bytes())
    }
}
