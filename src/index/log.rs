//! The log: tag groups and tombstones, read whole when an index is opened.

use std::ops::Range;

use crate::index::IndexError;
use crate::index::format::u32_at;
use crate::index::tags::Group;
use crate::mapped::Map;

/// Kind, three zeros, length of the payload, checksum.
const RECORD_HEAD: usize = 12;
const GROUP: u8 = 1;
const TOMBSTONES: u8 = 2;
/// Longest payload: a group of 64 tags of the longest kind fits.
const MAX_PAYLOAD: usize = 1 << 20;
/// Runs of removed rows that fit into one record.
const RUNS: usize = MAX_PAYLOAD / 8;

fn record(kind: u8, payload: &[u8], log: &mut Vec<u8>) {
    let start = log.len();
    log.extend([kind, 0, 0, 0]);
    log.extend((payload.len() as u32).to_le_bytes());
    let check = crc32c::crc32c_append(crc32c::crc32c(&log[start..]), payload);
    log.extend(check.to_le_bytes());
    log.extend(payload);
}

/// Appends the record of a new group; its number is how many groups came before it.
pub(crate) fn put_group(group: &Group, log: &mut Vec<u8>) {
    record(GROUP, &group.encode(), log);
}

/// Appends records of removed rows, given in ascending order.
pub(crate) fn put_tombstones(rows: &[u32], log: &mut Vec<u8>) {
    let runs: Vec<&[u32]> = rows.chunk_by(|a, b| a + 1 == *b).collect();
    for runs in runs.chunks(RUNS) {
        let run = |run: &&[u32]| [run[0].to_le_bytes(), (run.len() as u32).to_le_bytes()];
        let payload: Vec<u8> = runs.iter().flat_map(run).flatten().collect();
        record(TOMBSTONES, &payload, log);
    }
}

/// What the log of a snapshot says.
#[derive(Debug)]
pub(crate) struct Log {
    map: Map,
    groups: Vec<Range<usize>>,
    removed: Bitmap,
}

impl Log {
    /// Reads a log whose rows number `rows`, checking every byte.
    pub fn read(map: Map, rows: u32) -> Result<Self, IndexError> {
        let mut log = Self { map, groups: Vec::new(), removed: Bitmap::new(rows) };
        let mut at = 0;
        while at < log.map.bytes().len() {
            at = log.record(at).map_err(|what| IndexError::Damaged {
                path: log.map.path().into(),
                offset: at as u64,
                row: None,
                what,
            })?;
        }
        log.map.intact()?;
        Ok(log)
    }

    /// Reads the record at `at` and says where the next one begins.
    fn record(&mut self, at: usize) -> Result<usize, &'static str> {
        let bytes = &self.map.bytes()[at..];
        let cut = "the log ends within a record";
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD).ok_or(cut)?;
        let length = u32_at(head, 4) as usize;
        if length > MAX_PAYLOAD {
            return Err("a log record is longer than any can be");
        }
        let payload = rest.get(..length).ok_or(cut)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[..8]), payload) != u32_at(head, 8) {
            return Err("the checksum of a log record");
        }
        let start = at + RECORD_HEAD;
        match (head[0], &head[1..4]) {
            (GROUP, [0, 0, 0]) => {
                Group::decode(payload).ok_or("a tag group is not well formed")?;
                self.groups.push(start..start + length);
            }
            (TOMBSTONES, [0, 0, 0]) => {
                let (runs, []) = payload.as_chunks::<8>() else {
                    return Err("a list of removed rows is not well formed");
                };
                for run in runs {
                    let (first, count) = (u32_at(run, 0), u32_at(run, 4));
                    let inside =
                        first.checked_add(count).is_some_and(|end| end <= self.removed.rows);
                    if !inside || count == 0 {
                        return Err("a removed row is not in the index");
                    }
                    for row in first..first + count {
                        if !self.removed.set(row) {
                            return Err("a row is removed twice");
                        }
                    }
                }
            }
            _ => return Err("a log record of unknown kind"),
        }
        Ok(start + length)
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// A group by its number.
    pub fn group(&self, number: u32) -> Option<Group> {
        Group::decode(&self.map.bytes()[self.groups.get(number as usize)?.clone()])
    }

    /// Which rows were removed.
    pub fn removed(&self) -> &Bitmap {
        &self.removed
    }

    /// The mapped file.
    pub fn map(&self) -> &Map {
        &self.map
    }
}

/// One bit for each row.
#[derive(Debug, Clone)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    rows: u32,
}

impl Bitmap {
    /// All bits clear. No memory is touched until one is set.
    pub fn new(rows: u32) -> Self {
        Self { words: vec![0; (rows as usize).div_ceil(64)], rows }
    }

    /// Sets a bit and says whether it was clear.
    pub fn set(&mut self, row: u32) -> bool {
        let word = &mut self.words[row as usize / 64];
        let bit = 1 << (row % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Whether a bit is set.
    pub fn get(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The bits of rows `64 * at` and following.
    pub fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    /// How many bits are set: counted when asked. A counter kept by `set` is lost by rustc 1.95
    /// at -O3 where `set` is inlined into a loop with an early exit.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::Modality;
    use crate::index::Tags;
    use std::fs::File;

    fn read(bytes: &[u8], rows: u32) -> Result<Log, IndexError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        let map = Map::new(&File::open(&path).unwrap(), &path, bytes.len() as u64)?;
        Log::read(map, rows)
    }

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        let tags = Tags::new(["a=b".parse().unwrap()]).unwrap();
        put_group(&Group { modality: Modality::Image, tags: Tags::default() }, &mut bytes);
        put_group(&Group { modality: Modality::Text, tags }, &mut bytes);
        put_tombstones(&[0, 1, 2, 63, 64, 99], &mut bytes);
        bytes
    }

    #[test]
    fn groups_and_tombstones_read_back() {
        let log = read(&sample(), 100).unwrap();
        assert_eq!(log.groups(), 2);
        assert_eq!(log.group(1).unwrap().tags.get("a"), Some("b"));
        assert_eq!(log.group(2), None);
        let removed: Vec<u32> = (0..100).filter(|&row| log.removed().get(row)).collect();
        assert_eq!(removed, [0, 1, 2, 63, 64, 99]);
        assert_eq!(log.removed().count(), 6);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let clean = sample();
        for bit in 0..clean.len() * 8 {
            let mut bytes = clean.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bytes, 100), Err(IndexError::Damaged { .. })), "bit {bit}");
        }
        let ends = [0, 14, 14 + 12 + 7];
        for length in (0..clean.len()).filter(|l| !ends.contains(l)) {
            assert!(read(&clean[..length], 100).is_err(), "{length} bytes");
        }
        assert!(read(&clean, 99).is_err());
    }
}
