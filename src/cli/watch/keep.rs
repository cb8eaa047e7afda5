//! Embeddings kept in an index, so that yesterday can be searched, and forgotten in time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use sextant::index::{Filter, Index, IndexError, NewRow, Tag, Tags, Writer};
use sextant::watch::{Moment, Region, Seen};
use sextant::{Embedding, Encoder};

use super::super::Failure;
use super::super::output::complain;
use super::actions::open_index;
use super::source_name::without_password;
use super::thumbnails::{self, Thumbnails};

/// How often rows are made durable.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// How long to wait before an index that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// What is kept, and how long.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Append the embeddings of what was seen to this index
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Keep a frame every so many seconds, and those at which something happens
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::rate, requires = "index")]
    index_every: f64,
    /// Forget what is older than so many days
    #[arg(long, value_name = "DAYS", value_parser = super::positive, requires = "index")]
    keep_days: Option<f64>,
    /// Keep at most so many frames
    #[arg(long, value_name = "N", requires = "index", value_parser = clap::value_parser!(u32).range(1..))]
    keep_count: Option<u32>,
    /// Keep the index below so many megabytes
    #[arg(long, value_name = "MB", value_parser = super::positive, requires = "index")]
    keep_megabytes: Option<f64>,
    /// Also keep a small picture of each frame that is kept, in the index's folder
    #[arg(long, requires = "index")]
    thumbnails: bool,
}

impl KeepArgs {
    /// The index's folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// Whether pictures must be kept with frames.
    pub fn want_pictures(&self) -> bool {
        self.thumbnails
    }
}

/// The index that frames are kept in, if any.
pub struct Keep {
    store: Option<Store>,
}

struct Store {
    folder: PathBuf,
    writer: Option<Writer>,
    encoder_space: sextant::SpaceId,
    tags: Tags,
    source: String,
    every: f64,
    taken: f64,
    committed: Instant,
    failed: Option<Instant>,
    errors: u64,
    oldest_first: VecDeque<(i64, Vec<u8>)>,
    most: usize,
    oldest: Option<Duration>,
    thumbnails: Option<Thumbnails>,
}

impl Keep {
    /// Opens or makes the index.
    pub fn open(
        args: &KeepArgs,
        source: &str,
        regions: &[Region],
        encoder: &Encoder,
    ) -> Result<Self, Failure> {
        let Some(folder) = &args.index else { return Ok(Self { store: None }) };
        let unfit = |error: IndexError| Failure::Unfit(error.to_string());
        let writer = open_index(folder, encoder).map_err(unfit)?;
        let source = without_password(source);
        let tags = Tag::new("source", source.as_str()).and_then(|tag| Tags::new([tag]));
        let dimension = encoder.package().manifest().dimension;
        // A row: the vector, its columns, and a key of this length; removed rows take up to a
        // quarter more until the index is compacted.
        let row = (dimension + 84 + source.len() + 40) as f64 * 1.25;
        let row = if args.thumbnails { row + thumbnails::ROOM as f64 } else { row };
        let by_size = args.keep_megabytes.map(|mb| (mb * 1e6 / row).max(1.0) as usize);
        let by_count = args.keep_count.map(|count| count as usize);
        let most = by_size.unwrap_or(usize::MAX).min(by_count.unwrap_or(usize::MAX));
        let oldest = args.keep_days.map(|days| Duration::from_secs_f64(days * 86400.0));
        let mut store = Store {
            folder: folder.clone(),
            writer: Some(writer),
            encoder_space: encoder.space(),
            tags: tags.map_err(unfit)?,
            source,
            every: args.index_every,
            taken: f64::NEG_INFINITY,
            committed: Instant::now(),
            failed: None,
            errors: 0,
            oldest_first: VecDeque::new(),
            most,
            oldest,
            thumbnails: args.thumbnails.then(|| Thumbnails::new(folder, regions)),
        };
        if let Some(thumbnails) = &store.thumbnails {
            thumbnails.sweep().map_err(unfit)?;
        }
        store.remember().map_err(unfit)?;
        Ok(Self { store: Some(store) })
    }

    /// Keeps the frame if it is time, or if something happened.
    pub fn take(&mut self, frame: &Seen, embeddings: &[Embedding], happened: bool) {
        let Some(store) = &mut self.store else { return };
        if embeddings.is_empty() || !(happened || frame.time - store.taken >= store.every) {
            return;
        }
        store.taken = frame.time;
        if store.failed.is_some_and(|since| since.elapsed() < TRY_AGAIN) {
            return;
        }
        if let Err(error) = store.append(frame, embeddings) {
            complain(&format!("{error}; trying again in {} s", TRY_AGAIN.as_secs()));
            store.errors += 1;
            store.failed = Some(Instant::now());
            store.writer = None;
        }
    }

    /// Rows kept and failures so far.
    pub fn counts(&self) -> Option<(u32, u64)> {
        let store = self.store.as_ref()?;
        Some((store.writer.as_ref().map_or(0, Writer::len), store.errors))
    }

    /// Makes durable what is not yet.
    pub fn finish(&mut self) {
        if let Some(store) = &mut self.store
            && let Err(error) = store.forget()
        {
            complain(&error.to_string());
        }
    }
}

impl Store {
    fn forgets(&self) -> bool {
        self.most < usize::MAX || self.oldest.is_some()
    }

    /// Learns which rows of this source there are, oldest first, if any are ever to go.
    fn remember(&mut self) -> Result<(), IndexError> {
        self.oldest_first.clear();
        if !self.forgets() {
            return Ok(());
        }
        let reader = Index::open(&self.folder)?;
        let filter = Filter { tags: self.tags.iter().cloned().collect(), ..Filter::default() };
        for row in reader.matching(&filter)? {
            let entry = reader.entry(row)?;
            self.oldest_first.push_back((entry.time.unwrap_or(0), entry.key.to_vec()));
        }
        Ok(())
    }

    fn append(&mut self, frame: &Seen, embeddings: &[Embedding]) -> Result<(), IndexError> {
        if self.writer.is_none() {
            self.writer = Some(Writer::open(&self.folder, self.encoder_space)?);
            self.remember()?;
            self.failed = None;
        }
        let forgets = self.forgets();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        for (region, embedding) in embeddings.iter().enumerate() {
            let (key, time) = key_of(&self.source, frame, region);
            if let Some(thumbnails) = &mut self.thumbnails {
                thumbnails.keep(key.as_bytes(), frame, region);
            }
            let row = NewRow::new(key.as_bytes(), embedding);
            writer.append(&[NewRow { tags: &self.tags, time: Some(time), ..row }])?;
            if forgets {
                // A recording that is read again replaces its rows: a key stands here once.
                if matches!(frame.moment, Moment::Position(_)) {
                    self.oldest_first.retain(|(_, known)| known != key.as_bytes());
                }
                self.oldest_first.push_back((time, key.into_bytes()));
            }
        }
        if self.committed.elapsed() >= COMMIT_EVERY {
            self.forget()?;
            self.committed = Instant::now();
        }
        Ok(())
    }

    /// Removes what is too old or too much, and commits.
    ///
    /// Rows go in the order in which they came, so a clock that jumps back loses nothing: rows
    /// stamped in the future age once it is past them, and the count bounds them until then.
    fn forget(&mut self) -> Result<(), IndexError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let limit = self.oldest.map(|age| now() - age.as_millis() as i64);
        while let Some((time, key)) = self.oldest_first.front() {
            let too_many = self.oldest_first.len() > self.most;
            if !too_many && limit.is_none_or(|limit| *time >= limit) {
                break;
            }
            writer.remove(key)?;
            if let Some(thumbnails) = &self.thumbnails {
                thumbnails.forget(key);
            }
            self.oldest_first.pop_front();
        }
        writer.commit()?;
        if writer.removed() > 1000 && writer.removed() > writer.len() / 4 {
            writer.compact(false)?;
        }
        Ok(())
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}

/// The key of a frame and its time in milliseconds since 1970.
///
/// A recording's frames are keyed by their positions, so that reading it again replaces them; a
/// camera's by the time of day and their numbers, since a clock may show the same time twice.
pub fn key_of(source: &str, frame: &Seen, region: usize) -> (String, i64) {
    let part = if region == 0 { String::new() } else { format!("#{region}") };
    match frame.moment {
        Moment::Position(seconds) => (format!("{source}@{seconds:.3}s{part}"), now()),
        Moment::Clock(time) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            let time = since.map_or(0, |d| d.as_millis() as i64);
            (format!("{source}@{time}-{}{part}", frame.number), time)
        }
    }
}
