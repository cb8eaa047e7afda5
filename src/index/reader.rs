//! A snapshot of an index: what was committed when it was opened.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::embedding::{Embedding, Modality, SpaceId};
use crate::index::filter::Filter;
use crate::index::format::{Column, Layout, NO_TIME, Part, u32_at, u64_at};
use crate::index::head::{self, Head};
use crate::index::log::Log;
use crate::index::quantise;
use crate::index::record::{Record, Source, row_check};
use crate::index::rotate::Rotation;
use crate::index::sketch::Sketch;
use crate::index::{IndexError, Tags};
use crate::mapped::Map;

/// How often opening starts again because a compaction replaced the files in between.
const RETRIES: usize = 16;

/// What belongs to a row besides its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Number of the row in this snapshot.
    pub row: u32,
    /// The key: any bytes, usually a path.
    pub key: Vec<u8>,
    /// What kind of thing the vector was made from.
    pub modality: Modality,
    /// The tags.
    pub tags: Tags,
    /// Time stamp in milliseconds since 1970.
    pub time: Option<i64>,
    /// The file that the vector was made from.
    pub source: Option<Source>,
}

/// What `sextant index info` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The space of the vectors.
    pub space: SpaceId,
    /// Components of a vector.
    pub dimension: usize,
    /// Rows that can be found.
    pub rows: u32,
    /// Removed rows that still take room until the index is compacted.
    pub removed: u32,
    /// Combinations of modality and tags.
    pub groups: usize,
    /// Rows that the sketch for fast searches covers.
    pub sketched: u32,
    /// How often the index was compacted.
    pub compactions: u64,
    /// How many commits there were.
    pub commits: u64,
    /// When the index was made, in milliseconds since 1970.
    pub created: i64,
    /// When this state was committed, in milliseconds since 1970.
    pub committed: i64,
    /// Committed bytes of all files.
    pub bytes: u64,
}

/// An index opened for reading: a snapshot that no writer changes.
///
/// Opening reads the header, the tag groups and the list of removed rows, and maps the rest:
/// rows are read when they are needed. Rows that a search or [`Reader::entry`] hands out are
/// checked against their checksums first.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    head: Head,
    damaged_slots: Vec<usize>,
    pub(crate) rotation: Rotation,
    pub(crate) rows: Map,
    pub(crate) keys: Map,
    pub(crate) log: Log,
    pub(crate) sketch: Option<Sketch>,
}

impl Reader {
    /// Opens the newest committed state of the index in `folder`.
    ///
    /// # Errors
    /// [`IndexError`] when the folder is not an index, or a file is damaged, truncated or of
    /// a newer version. No row is touched before that is known.
    pub(crate) fn open(folder: &Path) -> Result<Self, IndexError> {
        let mut slots = head::read(folder)?;
        for _ in 0..RETRIES {
            match Self::map(folder, slots.head, slots.damaged) {
                Err(error) => {
                    // A compaction may have removed the files between the two looks.
                    let now = head::read(folder)?;
                    if now.head.generation == slots.head.generation {
                        return Err(error);
                    }
                    slots = now;
                }
                opened => return opened,
            }
        }
        let source = io::Error::other("the index is compacted again and again");
        Err(IndexError::Io { action: "opening", path: folder.into(), source })
    }

    fn map(folder: &Path, head: Head, damaged_slots: Vec<usize>) -> Result<Self, IndexError> {
        let map = |part: Part, length: u64| {
            let path = folder.join(part.file_name(head.generation));
            match File::open(&path) {
                Ok(file) => Ok(Map::new(&file, &path, length)?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(IndexError::FileMissing { path })
                }
                Err(e) => Err(IndexError::io("opening", &path, e)),
            }
        };
        let rows = map(Part::Rows, head.layout.file_bytes(head.rows))?;
        let keys = map(Part::Keys, head.key_bytes)?;
        let log = Log::read(map(Part::Log, head.log_bytes)?, head.rows)?;
        if head.rows - log.removed().count() != head.live {
            return Err(IndexError::Damaged {
                path: log.map().path().into(),
                offset: 0,
                row: None,
                what: "the header counts other removed rows than the log",
            });
        }
        let sketch = Sketch::open(folder, &head);
        let rotation = Rotation::new(head.layout.dimension());
        Ok(Self { folder: folder.into(), head, damaged_slots, rotation, rows, keys, log, sketch })
    }

    /// The folder of the index.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The space of the vectors.
    pub fn space(&self) -> SpaceId {
        self.head.space
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.head.layout.dimension()
    }

    /// Rows that can be found: those that were not removed.
    pub fn len(&self) -> u32 {
        self.head.live
    }

    /// Whether nothing can be found.
    pub fn is_empty(&self) -> bool {
        self.head.live == 0
    }

    /// What there is to know about the index as a whole.
    pub fn info(&self) -> Info {
        let head = &self.head;
        let sketch = self.sketch.as_ref();
        let mapped = |map: &Map| map.bytes().len() as u64;
        let bytes = mapped(&self.rows) + mapped(&self.keys) + mapped(self.log.map());
        Info {
            space: head.space,
            dimension: head.layout.dimension(),
            rows: head.live,
            removed: head.rows - head.live,
            groups: self.log.groups(),
            sketched: sketch.map_or(0, Sketch::rows),
            compactions: head.generation.saturating_sub(1),
            commits: head.sequence.saturating_sub(1),
            created: head.created,
            committed: head.committed,
            bytes: bytes + head::HEAD_BYTES as u64 + sketch.map_or(0, |s| mapped(s.map())),
        }
    }

    /// Header slots that are damaged although the newest state could be read.
    pub fn damaged_slots(&self) -> &[usize] {
        &self.damaged_slots
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn layout(&self) -> Layout {
        self.head.layout
    }

    /// Fails unless vectors of `space` belong here.
    ///
    /// # Errors
    /// [`IndexError::ForeignSpace`].
    pub fn expect_space(&self, space: SpaceId) -> Result<(), IndexError> {
        if space == self.head.space {
            return Ok(());
        }
        let (index, given) = (self.head.space.short(), space.short());
        Err(IndexError::ForeignSpace { path: self.folder.clone(), index, given })
    }

    /// A row's bytes in one column; `row` is less than the number of rows.
    pub(crate) fn cell(&self, column: Column, row: u32) -> &[u8] {
        let start = self.head.layout.offset(column, row) as usize;
        &self.rows.bytes()[start..start + self.head.layout.width(column)]
    }

    pub(crate) fn scale(&self, row: u32) -> f32 {
        f32::from_bits(u32_at(self.cell(Column::Scale, row), 0))
    }

    pub(crate) fn time(&self, row: u32) -> Option<i64> {
        let time = u64_at(self.cell(Column::Time, row), 0) as i64;
        (time != NO_TIME).then_some(time)
    }

    pub(crate) fn group(&self, row: u32) -> u32 {
        u32_at(self.cell(Column::Group, row), 0)
    }

    pub(crate) fn record(&self, row: u32) -> Record {
        Record::decode(self.cell(Column::Record, row))
    }

    pub(crate) fn damaged(&self, row: u32, column: Column, what: &'static str) -> IndexError {
        IndexError::Damaged {
            path: self.rows.path().into(),
            offset: self.head.layout.offset(column, row),
            row: Some(row),
            what,
        }
    }

    /// Compares a row with its checksum.
    pub(crate) fn check_row(&self, row: u32) -> Result<(), IndexError> {
        let columns = [Column::Vector, Column::Scale, Column::Time, Column::Group, Column::Record]
            .map(|column| self.cell(column, row));
        let check = row_check(row, columns);
        let stored = u32_at(self.cell(Column::Check, row), 0);
        self.rows.intact()?;
        if check != stored {
            return Err(self.damaged(row, Column::Vector, "the checksum of a row"));
        }
        if self.group(row) as usize >= self.log.groups() {
            return Err(self.damaged(row, Column::Group, "the tag group does not exist"));
        }
        Ok(())
    }

    /// The bytes of a row's key, if they lie within the keys file.
    pub(crate) fn key_bytes(&self, record: &Record) -> Option<&[u8]> {
        let start = usize::try_from(record.key_offset).ok()?;
        self.keys.bytes().get(start..start.checked_add(record.key_length as usize)?)
    }

    /// A row's key, compared with its checksum.
    pub(crate) fn key(&self, row: u32, record: &Record) -> Result<&[u8], IndexError> {
        let key = self
            .key_bytes(record)
            .ok_or_else(|| self.damaged(row, Column::Record, "the key lies outside of its file"))?;
        let check = crc32c::crc32c(key);
        self.keys.intact()?;
        if check != record.key_check {
            return Err(IndexError::Damaged {
                path: self.keys.path().into(),
                offset: record.key_offset,
                row: Some(row),
                what: "the checksum of a key",
            });
        }
        Ok(key)
    }

    fn known_row(&self, row: u32) -> Result<(), IndexError> {
        if row < self.head.rows {
            return Ok(());
        }
        Err(IndexError::NoSuchRow { row, rows: self.head.rows })
    }

    /// What belongs to a row, after checking it.
    ///
    /// # Errors
    /// [`IndexError::NoSuchRow`]; [`IndexError::Damaged`] with the place of the damage.
    pub fn entry(&self, row: u32) -> Result<Entry, IndexError> {
        self.known_row(row)?;
        self.check_row(row)?;
        let record = self.record(row);
        let key = self.key(row, &record)?.to_vec();
        let group = self
            .log
            .group(self.group(row))
            .ok_or_else(|| self.damaged(row, Column::Group, "the tag group does not exist"))?;
        Ok(Entry {
            row,
            key,
            modality: group.modality,
            tags: group.tags,
            time: self.time(row),
            source: record.source,
        })
    }

    /// The unit vector of a row, after checking it.
    ///
    /// # Errors
    /// As for [`Reader::entry`].
    pub fn vector(&self, row: u32) -> Result<Vec<f32>, IndexError> {
        self.known_row(row)?;
        self.check_row(row)?;
        let mut vector = vec![0.0; self.dimension()];
        let cells = self.cell(Column::Vector, row);
        quantise::restore(cells, self.scale(row), &self.rotation, &mut vector);
        self.rows.intact()?;
        Ok(vector)
    }

    /// The embedding of a row, after checking it.
    ///
    /// # Errors
    /// As for [`Reader::entry`].
    pub fn embedding(&self, row: u32) -> Result<Embedding, IndexError> {
        let entry = self.entry(row)?;
        Embedding::new(self.space(), entry.modality, self.vector(row)?)
            .map_err(|_| self.damaged(row, Column::Vector, "the vector has no direction"))
    }

    /// Numbers of the rows that pass `filter`, ascending.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`] when a file shrank meanwhile.
    pub fn matching(&self, filter: &Filter) -> Result<Vec<u32>, IndexError> {
        let filter = filter.compile(self);
        let mut rows = Vec::new();
        for tile in 0..self.head.rows.div_ceil(64) {
            let mut mask = filter.mask(self, tile);
            while mask != 0 {
                rows.push(tile * 64 + mask.trailing_zeros());
                mask &= mask - 1;
            }
        }
        self.rows.intact()?;
        self.keys.intact()?;
        Ok(rows)
    }

    /// The row with a key, if it was not removed. Reads one record for each row.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] when the row that is found does not fit its checksum.
    pub fn find(&self, key: &[u8]) -> Result<Option<u32>, IndexError> {
        let digest = crate::index::record::short_digest(key);
        let found = (0..self.head.rows).rev().find(|&row| {
            self.cell(Column::Record, row)[16..32] == digest && !self.log.removed().get(row)
        });
        self.rows.intact()?;
        if let Some(row) = found {
            self.check_row(row)?;
        }
        Ok(found)
    }

    /// The mean of the vectors of one modality, over at most `most` rows spread evenly.
    ///
    /// This is what [`crate::space::combine_centred`] needs to correct the modality gap. `None` when
    /// the index has no such row.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] when one of these rows does not fit its checksum.
    pub fn mean(&self, modality: Modality, most: usize) -> Result<Option<Vec<f32>>, IndexError> {
        let rows = self.matching(&Filter { modality: Some(modality), ..Filter::default() })?;
        let step = rows.len().div_ceil(most.max(1)).max(1);
        let mut sum = vec![0f64; self.dimension()];
        let mut count = 0f64;
        for &row in rows.iter().step_by(step) {
            self.check_row(row)?;
            let scale = f64::from(self.scale(row));
            for (total, &cell) in sum.iter_mut().zip(self.cell(Column::Vector, row)) {
                *total += f64::from(cell as i8) * scale;
            }
            count += 1.0;
        }
        let mut mean: Vec<f32> = sum.iter().map(|total| (total / count) as f32).collect();
        self.rotation.undo(&mut mean);
        Ok((count > 0.0).then_some(mean))
    }
}
