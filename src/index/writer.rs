//! The one writer of an index: appends, removes, and commits.
//!
//! A commit writes rows, keys and log behind what is committed, syncs them, then writes the
//! header slots that count them and syncs those. Until the header is on the disk nothing of
//! it exists; when it is, all of it does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::embedding::SpaceId;
use crate::index::batch::{self, NewRow, Piece, Place};
use crate::index::files::{Files, OpenFile};
use crate::index::format::{Column, HEAD, Layout, MAX_ROWS};
use crate::index::groups::Groups;
use crate::index::head::Head;
use crate::index::lock::Lock;
use crate::index::record::{ShortDigest, Source, short_digest};
use crate::index::sketch::Sketch;
use crate::index::storage::{Disk, Storage};
use crate::index::{IndexError, Reader, create, log};

/// An index opened for writing. There is one writer at a time; readers are not disturbed.
///
/// Dropping a writer forgets what was appended or removed since the last
/// [`Writer::commit`].
pub struct Writer {
    pub(super) folder: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    _lock: Lock,
    pub(super) files: Files,
    /// The state on the disk.
    pub(super) committed: Head,
    /// The state that the next commit makes.
    next: Head,
    /// What was committed when the writer was opened or last compacted.
    pub(super) snapshot: Reader,
    /// Rows by the digests of their keys; filled when first needed.
    known: Option<HashMap<ShortDigest, u32>>,
    groups: Groups,
    pending: Pending,
    poisoned: bool,
}

/// What the next commit writes into the log, and what it has to sync.
#[derive(Debug, Default)]
struct Pending {
    groups: Vec<u8>,
    removed: Vec<u32>,
    rows: bool,
}

/// Now, in milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

impl Writer {
    /// Opens an index for writing.
    ///
    /// # Errors
    /// [`IndexError::Locked`] while another writer has it, [`IndexError::ForeignSpace`] when
    /// it holds vectors of another space, and whatever opening for reading can fail with.
    pub fn open(folder: impl AsRef<Path>, space: SpaceId) -> Result<Self, IndexError> {
        Self::open_on(folder.as_ref(), Some(space), Arc::new(Disk))
    }

    /// Opens an index for upkeep, whatever its space is.
    ///
    /// # Errors
    /// As for [`Writer::open`].
    pub fn open_any(folder: impl AsRef<Path>) -> Result<Self, IndexError> {
        Self::open_on(folder.as_ref(), None, Arc::new(Disk))
    }

    pub(super) fn create(
        folder: &Path,
        space: SpaceId,
        dimension: usize,
    ) -> Result<Self, IndexError> {
        Self::create_on(folder, space, dimension, Arc::new(Disk))
    }

    pub(super) fn create_on(
        folder: &Path,
        space: SpaceId,
        dimension: usize,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, IndexError> {
        let layout = Layout::new(dimension)?;
        let lock = create::create(folder, space, layout, &*storage)?;
        Self::with_lock(folder, Some(space), storage, lock)
    }

    pub(super) fn open_on(
        folder: &Path,
        space: Option<SpaceId>,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, IndexError> {
        // Says what is wrong before a lock file appears in a folder that is not an index.
        let reader = Reader::open(folder)?;
        space.map_or(Ok(()), |space| reader.expect_space(space))?;
        let lock = Lock::take(folder)?;
        Self::with_lock(folder, space, storage, lock)
    }

    fn with_lock(
        folder: &Path,
        space: Option<SpaceId>,
        storage: Arc<dyn Storage>,
        lock: Lock,
    ) -> Result<Self, IndexError> {
        let snapshot = Reader::open(folder)?;
        space.map_or(Ok(()), |space| snapshot.expect_space(space))?;
        let committed = *snapshot.head();
        let head = OpenFile::open(&*storage, folder.join(HEAD), false)?;
        let files = Files::open(&*storage, folder, committed.generation, head, false)?;
        let mut writer = Self {
            folder: folder.into(),
            groups: Groups::of(&snapshot),
            storage,
            _lock: lock,
            files,
            committed,
            next: committed,
            snapshot,
            known: None,
            pending: Pending::default(),
            poisoned: false,
        };
        writer.settle()?;
        Ok(writer)
    }

    /// Makes sure that both header pairs are on the disk before the next commit touches one:
    /// a writer that was killed may have left the newest in memory only.
    fn settle(&mut self) -> Result<(), IndexError> {
        self.files.head.sync()?;
        let damaged = self.snapshot.damaged_slots().to_vec();
        if !damaged.is_empty() {
            // Once for each pair.
            self.commit_head(self.committed)?;
            self.commit_head(self.committed)?;
        }
        create::remove_leftovers(&self.folder, self.committed.generation, &*self.storage);
        Ok(())
    }

    /// The space of the vectors.
    pub fn space(&self) -> SpaceId {
        self.committed.space
    }

    /// Components of a vector.
    pub fn dimension(&self) -> usize {
        self.committed.layout.dimension()
    }

    /// Rows that can be found after the next commit.
    pub fn len(&self) -> u32 {
        self.next.live
    }

    /// Whether nothing can be found after the next commit.
    pub fn is_empty(&self) -> bool {
        self.next.live == 0
    }

    /// Rows that were removed and still take room after the next commit.
    pub fn removed(&self) -> u32 {
        self.next.rows - self.next.live
    }

    fn sound(&self) -> Result<(), IndexError> {
        if self.poisoned {
            return Err(IndexError::Poisoned { path: self.folder.clone() });
        }
        Ok(())
    }

    /// Closes the writer for good if `result` is an error: what the disk holds beyond the
    /// last commit is unknown then.
    pub(super) fn guard<T>(&mut self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        self.poisoned |= result.is_err();
        result
    }

    /// Appends rows, to be seen after the next commit, and says how many older rows they
    /// replace: a row with the same key is removed by the same commit. Of rows with the same
    /// key in one batch the last one stays. If one row is refused, none is appended.
    ///
    /// # Errors
    /// [`IndexError::ForeignSpace`], [`IndexError::Dimension`], [`IndexError::KeyLength`],
    /// [`IndexError::BadVector`] or [`IndexError::Full`] for rows that cannot be taken; what
    /// the file system says otherwise, after which the writer is closed.
    pub fn append(&mut self, rows: &[NewRow<'_>]) -> Result<u32, IndexError> {
        self.sound()?;
        if let Some(foreign) = rows.iter().find(|row| row.space != self.committed.space) {
            self.snapshot.expect_space(foreign.space)?;
        }
        batch::check(rows, self.dimension())?;
        let room = (MAX_ROWS - self.next.rows) as usize;
        if rows.len() > room {
            return Err(IndexError::Full { path: self.folder.clone(), most: MAX_ROWS });
        }
        let (numbers, new_groups) = self.groups.number(rows);
        let place = Place {
            layout: self.committed.layout,
            rotation: &self.snapshot.rotation,
            first: self.next.rows,
            key_offset: self.next.key_bytes,
        };
        let pieces = batch::lay_out(rows, &numbers, place)?;
        let keys: Vec<u8> = rows.iter().flat_map(|row| row.key).copied().collect();
        self.fill_known()?;

        let written = self
            .files
            .write_pieces(self.committed.layout, &pieces)
            .and_then(|()| self.files.keys.write(self.next.key_bytes, &keys));
        self.guard(written)?;
        self.next.rows += rows.len() as u32;
        self.next.live += rows.len() as u32;
        self.next.key_bytes += keys.len() as u64;
        self.pending.rows |= !rows.is_empty();
        for group in new_groups {
            log::put_group(&group, &mut self.pending.groups);
            self.groups.enter(group);
        }
        Ok(self.replace(&pieces))
    }

    /// Enters new rows by their keys and removes those that had the keys before.
    fn replace(&mut self, pieces: &[Piece]) -> u32 {
        let known = self.known.get_or_insert_default();
        let mut replaced = 0;
        for piece in pieces {
            for (row, digest) in (piece.first..).zip(&piece.digests) {
                if let Some(old) = known.insert(*digest, row) {
                    self.pending.removed.push(old);
                    replaced += 1;
                }
            }
        }
        self.next.live -= replaced;
        replaced
    }

    /// Reads the digests of all keys, once.
    fn fill_known(&mut self) -> Result<&HashMap<ShortDigest, u32>, IndexError> {
        if self.known.is_none() {
            let reader = &self.snapshot;
            let rows = 0..reader.head().rows;
            let live = rows.filter(|&row| !reader.log.removed().get(row));
            let known = live.map(|row| {
                let digest = &reader.cell(Column::Record, row)[16..32];
                (digest.try_into().expect("16 bytes"), row)
            });
            let known = known.collect();
            reader.rows.intact()?;
            self.known = Some(known);
        }
        Ok(self.known.get_or_insert_default())
    }

    /// Whether a key is there, and the file it was made from: what decides if `index add`
    /// may skip a file. Rows that are not committed yet are not looked at.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] when the row does not fit its checksum.
    pub fn source_of(&mut self, key: &[u8]) -> Result<Option<Option<Source>>, IndexError> {
        let Some(row) = self.fill_known()?.get(&short_digest(key)).copied() else {
            return Ok(None);
        };
        if row >= self.committed.rows {
            return Ok(None);
        }
        if row >= self.snapshot.head().rows {
            self.snapshot = Reader::open(&self.folder)?;
        }
        self.snapshot.check_row(row)?;
        Ok(Some(self.snapshot.record(row).source))
    }

    /// Removes the row with a key by the next commit, and says whether there was one.
    ///
    /// # Errors
    /// [`IndexError::Poisoned`] after an earlier failure, or what reading says.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, IndexError> {
        self.sound()?;
        self.fill_known()?;
        let row = self.known.get_or_insert_default().remove(&short_digest(key));
        if let Some(row) = row {
            self.pending.removed.push(row);
            self.next.live -= 1;
        }
        Ok(row.is_some())
    }

    /// Makes everything since the last commit durable, all or nothing. When this returns, no
    /// crash and no power cut can lose it.
    ///
    /// # Errors
    /// What the file system says; the writer is closed then, and the state on the disk is
    /// the one before or after, never one in between.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        self.sound()?;
        let mut log = std::mem::take(&mut self.pending.groups);
        let mut removed = std::mem::take(&mut self.pending.removed);
        let rows = std::mem::take(&mut self.pending.rows);
        removed.sort_unstable();
        log::put_tombstones(&removed, &mut log);
        if log.is_empty() && !rows {
            return Ok(());
        }
        let result = self.write_out(&log, rows);
        self.guard(result)
    }

    fn write_out(&mut self, log: &[u8], rows: bool) -> Result<(), IndexError> {
        if !log.is_empty() {
            self.files.log.write(self.committed.log_bytes, log)?;
            self.files.log.sync()?;
        }
        if rows {
            self.files.sync_rows()?;
        }
        self.next.log_bytes = self.committed.log_bytes + log.len() as u64;
        self.commit_head(self.next)
    }

    /// Makes `state`, whose data is durable, the committed one.
    pub(super) fn commit_head(&mut self, state: Head) -> Result<(), IndexError> {
        let sequence = self.committed.sequence + 1;
        let state = Head { sequence, committed: now(), ..state };
        self.files.write_head(&state)?;
        self.committed = state;
        self.next = state;
        Ok(())
    }

    /// Starts afresh from what is on the disk, after the files were replaced.
    pub(super) fn reload(&mut self) -> Result<(), IndexError> {
        self.snapshot = Reader::open(&self.folder)?;
        self.groups = Groups::of(&self.snapshot);
        self.known = None;
        self.next = self.committed;
        Ok(())
    }

    /// Writes the file that makes [`crate::index::ScanOptions::fast`] fast, if more than a
    /// quarter of the committed rows are new since the last one; it covers whole blocks of 1024
    /// rows. Reads every row once.
    ///
    /// # Errors
    /// What the file system says; the index is as before then.
    pub fn build_sketch(&mut self) -> Result<bool, IndexError> {
        self.sound()?;
        self.commit()?;
        let reader = Reader::open(&self.folder)?;
        let covered = reader.sketch.as_ref().map_or(0, Sketch::rows);
        let coverable = Sketch::coverable(reader.head().rows);
        let worth = coverable - covered > coverable / 4;
        if worth {
            Sketch::build(&reader, &*self.storage)?;
        }
        Ok(worth)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("folder", &self.folder).field("state", &self.next).finish()
    }
}
