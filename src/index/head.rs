//! The header: what is committed, in two pairs of checksummed slots.
//!
//! Commit number n goes into both slots of pair n mod 2, so a torn write can only hurt the
//! pair that was not current, and a damaged slot always has a twin.

use std::fs;
use std::io;
use std::path::Path;

use crate::embedding::SpaceId;
use crate::index::IndexError;
use crate::index::format::{BLOCK, FORMAT_VERSION, HEAD, Layout, MAX_ROWS, u32_at, u64_at};

/// Bytes of a slot.
pub(crate) const SLOT: usize = 4096;
/// Bytes of the header file: four slots.
pub(crate) const HEAD_BYTES: usize = 4 * SLOT;
const MAGIC: [u8; 8] = *b"\x89SXIDX\r\n";
/// Bytes of a slot that mean something; zeros follow, then the checksum.
const USED: usize = 120;
/// Symmetric signed bytes with one scale for each row: the only quantisation of version 1.
const QUANTISATION: u32 = 1;

/// One committed state of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number of the commit.
    pub sequence: u64,
    /// Number in the names of the data files; compaction raises it.
    pub generation: u64,
    /// Space of the vectors.
    pub space: SpaceId,
    /// Where things lie in the rows file.
    pub layout: Layout,
    /// Rows, removed ones included.
    pub rows: u32,
    /// Rows that were not removed.
    pub live: u32,
    /// Committed length of the keys file.
    pub key_bytes: u64,
    /// Committed length of the log file.
    pub log_bytes: u64,
    /// When the index was made, in milliseconds since 1970.
    pub created: i64,
    /// When this state was committed.
    pub committed: i64,
}

/// What a look at the four slots found.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The newest intact state.
    pub head: Head,
    /// Slots that are not intact.
    pub damaged: Vec<usize>,
}

/// Where the pair of commit `sequence` begins in the file.
pub(crate) fn pair_offset(sequence: u64) -> u64 {
    (sequence % 2) * 2 * SLOT as u64
}

impl Head {
    /// The state as both slots of its pair.
    pub fn pair(&self) -> [u8; 2 * SLOT] {
        let mut pair = [0; 2 * SLOT];
        let slot = self.slot();
        pair[..SLOT].copy_from_slice(&slot);
        pair[SLOT..].copy_from_slice(&slot);
        pair
    }

    fn slot(&self) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            slot[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&FORMAT_VERSION.to_le_bytes());
        put(&QUANTISATION.to_le_bytes());
        put(&self.sequence.to_le_bytes());
        put(&self.generation.to_le_bytes());
        put(self.space.as_bytes());
        put(&(self.layout.dimension() as u32).to_le_bytes());
        put(&(self.layout.stride() as u32).to_le_bytes());
        put(&(BLOCK as u32).to_le_bytes());
        put(&self.rows.to_le_bytes());
        put(&self.live.to_le_bytes());
        put(&0u32.to_le_bytes());
        put(&self.key_bytes.to_le_bytes());
        put(&self.log_bytes.to_le_bytes());
        put(&self.created.to_le_bytes());
        put(&self.committed.to_le_bytes());
        debug_assert_eq!(at, USED);
        let check = crc32c::crc32c(&slot[..SLOT - 4]);
        slot[SLOT - 4..].copy_from_slice(&check.to_le_bytes());
        slot
    }

    /// Reads a slot whose checksum holds and whose version is known.
    fn parse(slot: &[u8], path: &Path) -> Result<Self, IndexError> {
        let rule = |rule| IndexError::HeadRule { path: path.into(), rule };
        if u32_at(slot, 12) != QUANTISATION {
            return Err(rule("the quantisation is not known"));
        }
        let space = SpaceId::from_bytes(slot[32..64].try_into().expect("32 bytes"));
        let layout = Layout::new(u32_at(slot, 64) as usize)
            .map_err(|_| rule("the dimension is outside of 1 to 4096"))?;
        if u32_at(slot, 68) as usize != layout.stride() || u32_at(slot, 72) as usize != BLOCK {
            return Err(rule("the row length or the block length is not that of this version"));
        }
        let head = Self {
            sequence: u64_at(slot, 16),
            generation: u64_at(slot, 24),
            space,
            layout,
            rows: u32_at(slot, 76),
            live: u32_at(slot, 80),
            key_bytes: u64_at(slot, 88),
            log_bytes: u64_at(slot, 96),
            created: u64_at(slot, 104) as i64,
            committed: u64_at(slot, 112) as i64,
        };
        if head.rows > MAX_ROWS || head.live > head.rows {
            return Err(rule("the number of rows is too large"));
        }
        if head.sequence == u64::MAX || head.generation == u64::MAX {
            return Err(rule("the sequence number is used up"));
        }
        Ok(head)
    }
}

/// What the checks on one slot say.
enum Slot {
    Intact,
    Newer(u32),
    Foreign,
    Damaged,
}

fn inspect(slot: &[u8], at: usize) -> Slot {
    if slot[..8] != MAGIC {
        return Slot::Foreign;
    }
    if crc32c::crc32c(&slot[..SLOT - 4]) != u32_at(slot, SLOT - 4) {
        return Slot::Damaged;
    }
    let version = u32_at(slot, 8);
    if version != FORMAT_VERSION {
        return Slot::Newer(version);
    }
    if u64_at(slot, 16) % 2 != at as u64 / 2 { Slot::Damaged } else { Slot::Intact }
}

/// Reads the newest intact state from the bytes of the header file.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Slots, IndexError> {
    let mut newest: Option<&[u8]> = None;
    let mut damaged = Vec::new();
    let (mut foreign, mut newer) = (0, None);
    for (at, slot) in bytes.chunks_exact(SLOT).enumerate() {
        match inspect(slot, at) {
            Slot::Intact => {
                if newest.is_none_or(|other| u64_at(slot, 16) > u64_at(other, 16)) {
                    newest = Some(slot);
                }
                continue;
            }
            Slot::Newer(version) => newer = Some(version),
            Slot::Foreign => foreign += 1,
            Slot::Damaged => {}
        }
        damaged.push(at);
    }
    if let Some(found) = newer {
        return Err(IndexError::NewerVersion { path: path.into(), found, known: FORMAT_VERSION });
    }
    match newest {
        Some(slot) => Ok(Slots { head: Head::parse(slot, path)?, damaged }),
        None if foreign == 4 => {
            let reason = "its header file does not begin as a header does";
            Err(IndexError::NotAnIndex { path: path.into(), reason })
        }
        None => Err(IndexError::HeadDamaged { path: path.into() }),
    }
}

/// Reads the header file of the index in `folder`.
pub(crate) fn read(folder: &Path) -> Result<Slots, IndexError> {
    let path = folder.join(HEAD);
    match fs::metadata(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(IndexError::Missing { path: folder.into() });
        }
        Err(e) => return Err(IndexError::io("reading", folder, e)),
        Ok(data) if !data.is_dir() => return Err(IndexError::NotAFolder { path: folder.into() }),
        Ok(_) => {}
    }
    let found = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let reason = "the folder has no file named `head`";
            return Err(IndexError::NotAnIndex { path: folder.into(), reason });
        }
        Err(e) => return Err(IndexError::io("reading", &path, e)),
        Ok(data) if !data.is_file() => {
            let reason = "`head` is not a file";
            return Err(IndexError::NotAnIndex { path: folder.into(), reason });
        }
        Ok(data) => data.len(),
    };
    if found != HEAD_BYTES as u64 {
        return Err(IndexError::Truncated { path, expected: HEAD_BYTES as u64, found });
    }
    let bytes = fs::read(&path).map_err(|e| IndexError::io("reading", &path, e))?;
    if bytes.len() != HEAD_BYTES {
        let found = bytes.len() as u64;
        return Err(IndexError::Truncated { path, expected: HEAD_BYTES as u64, found });
    }
    parse(&bytes, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(sequence: u64) -> Head {
        Head {
            sequence,
            generation: 1,
            space: SpaceId::from_bytes([9; 32]),
            layout: Layout::new(384).unwrap(),
            rows: sequence as u32 * 10,
            live: sequence as u32 * 9,
            key_bytes: 77,
            log_bytes: 5,
            created: -1,
            committed: 1_700_000_000_000,
        }
    }

    fn file(older: u64) -> Vec<u8> {
        let mut pairs = [state(older), state(older + 1)];
        pairs.sort_by_key(|head| head.sequence % 2);
        pairs.iter().flat_map(Head::pair).collect()
    }

    #[test]
    fn the_newest_state_wins_and_reads_back_whole() {
        for older in 0..3 {
            let slots = parse(&file(older), Path::new("head")).unwrap();
            assert_eq!(slots.head, state(older + 1));
            assert!(slots.damaged.is_empty());
        }
    }

    #[test]
    fn any_flipped_bit_is_found_and_costs_no_commit() {
        let clean = file(6);
        for byte in
            (0..clean.len()).filter(|at| at % SLOT < 130 || at % 97 == 0 || at % SLOT > 4090)
        {
            let mut bytes = clean.clone();
            bytes[byte] ^= 1 << (byte % 8);
            let slots = parse(&bytes, Path::new("head")).unwrap();
            assert_eq!(slots.head, state(7), "byte {byte}");
            assert_eq!(slots.damaged, [byte / SLOT]);
        }
    }

    #[test]
    fn a_torn_pair_leaves_the_state_before() {
        let mut bytes = file(6);
        let next = state(8).pair();
        for torn in [1, 100, 4095, 4097, 8191] {
            bytes[..torn].copy_from_slice(&next[..torn]);
            let expected = if torn > SLOT { 8 } else { 7 };
            assert_eq!(parse(&bytes, Path::new("head")).unwrap().head, state(expected));
        }
    }

    #[test]
    fn foreign_newer_and_destroyed_headers_say_so() {
        let path = Path::new("head");
        assert!(matches!(parse(&[0; HEAD_BYTES], path), Err(IndexError::NotAnIndex { .. })));
        let mut bytes = file(6);
        for slot in bytes.chunks_exact_mut(SLOT) {
            slot[8] = 2;
            let check = crc32c::crc32c(&slot[..SLOT - 4]);
            slot[SLOT - 4..].copy_from_slice(&check.to_le_bytes());
        }
        assert!(matches!(parse(&bytes, path), Err(IndexError::NewerVersion { found: 2, .. })));
        bytes.iter_mut().skip(500).step_by(SLOT).for_each(|b| *b ^= 1);
        assert!(matches!(parse(&bytes, path), Err(IndexError::HeadDamaged { .. })));
    }
}
