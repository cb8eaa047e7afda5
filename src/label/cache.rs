//! Text embeddings on disk, so that a second run with the same labels needs no text tower.
//!
//! One append-only file a space, of fixed-size records: SHA-256 of the text (32 bytes), the
//! vector as `f32` little-endian, CRC-32C of both. A damaged record is ignored, and what follows
//! a torn one is cut off. The cache is a convenience: whatever fails with it, labelling goes on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::embedding::SpaceId;

/// A cache file larger than this is started anew.
const MAX_BYTES: u64 = 128 << 20;

/// Text embeddings of one space, by text.
#[derive(Debug)]
pub struct TextCache {
    path: Option<PathBuf>,
    dimension: usize,
    known: HashMap<[u8; 32], Vec<f32>>,
    fresh: Vec<[u8; 32]>,
}

impl TextCache {
    /// The cache of `space` in the user's cache folder (`$SEXTANT_CACHE`, or `sextant` below
    /// `$XDG_CACHE_HOME` or `~/.cache`); `SEXTANT_CACHE=off` turns it off.
    pub fn open(space: SpaceId, dimension: usize) -> Self {
        Self::open_at(cache_folder().map(|f| f.join(format!("text-{space}.bin"))), dimension)
    }

    /// A cache in a file of the caller's choice; `None` keeps it in memory.
    pub fn open_at(path: Option<PathBuf>, dimension: usize) -> Self {
        let known = path.as_ref().and_then(|path| read(path, dimension)).unwrap_or_default();
        Self { path, dimension, known, fresh: Vec::new() }
    }

    /// The embedding of `text`, if it is known.
    pub fn get(&self, text: &str) -> Option<&[f32]> {
        self.known.get(&key(text)).map(Vec::as_slice)
    }

    /// Remembers the embedding of `text`.
    pub fn insert(&mut self, text: &str, values: &[f32]) {
        if values.len() == self.dimension {
            let key = key(text);
            self.known.insert(key, values.to_vec());
            self.fresh.push(key);
        }
    }

    /// Appends what is new to the file.
    ///
    /// # Errors
    /// What the operating system says; the caller may ignore it.
    pub fn flush(&mut self) -> std::io::Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let Some(path) = self.path.as_ref().filter(|_| !fresh.is_empty()) else { return Ok(()) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        file.lock()?;
        let record = record_bytes(self.dimension) as u64;
        let length = file.metadata()?.len();
        let whole = if length > MAX_BYTES { 0 } else { length - length % record };
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let mut bytes = Vec::with_capacity(fresh.len() * record as usize);
        for key in fresh {
            let start = bytes.len();
            bytes.extend_from_slice(&key);
            self.known[&key].iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
            let checksum = crc32c::crc32c(&bytes[start..]);
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        file.write_all(&bytes)
    }
}

fn cache_folder() -> Option<PathBuf> {
    match std::env::var_os("SEXTANT_CACHE") {
        Some(off) if off == "off" => return None,
        Some(folder) if !folder.is_empty() => return Some(folder.into()),
        _ => {}
    }
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|b| !b.is_empty()).map(PathBuf::from);
    base.or_else(home).map(|base| base.join("sextant"))
}

fn key(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn record_bytes(dimension: usize) -> usize {
    32 + dimension * 4 + 4
}

fn read(path: &PathBuf, dimension: usize) -> Option<HashMap<[u8; 32], Vec<f32>>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let records = bytes.chunks_exact(record_bytes(dimension));
    let known = records.filter_map(|record| {
        let (body, checksum) = record.split_last_chunk::<4>()?;
        let (key, values) = body.split_first_chunk::<32>()?;
        let intact = crc32c::crc32c(body) == u32::from_le_bytes(*checksum);
        let values: Vec<f32> =
            values.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        (intact && values.iter().all(|v| v.is_finite())).then_some((*key, values))
    });
    Some(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_found_and_damage_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/text.bin");
        let mut cache = TextCache::open_at(Some(path.clone()), 2);
        cache.insert("cat", &[1.0, 0.0]);
        cache.insert("dog", &[0.0, 1.0]);
        cache.flush().unwrap();

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[33] ^= 1;
        bytes.extend_from_slice(b"torn");
        std::fs::write(&path, &bytes).unwrap();
        let mut cache = TextCache::open_at(Some(path.clone()), 2);
        assert_eq!(cache.get("cat"), None);
        assert_eq!(cache.get("dog"), Some(&[0.0, 1.0][..]));

        cache.insert("cat", &[0.5, 0.5]);
        cache.flush().unwrap();
        let cache = TextCache::open_at(Some(path), 2);
        assert_eq!(cache.get("cat"), Some(&[0.5, 0.5][..]));
        assert_eq!(cache.get("dog"), Some(&[0.0, 1.0][..]));
    }
}
