//! The record of a row: where its key is, and the file it was made from.

use sha2::{Digest, Sha256};

use crate::index::format::{RECORD, u32_at, u64_at};

/// The first 16 bytes of a SHA-256.
pub type ShortDigest = [u8; 16];

/// The file that a row was made from, so that it can be skipped while it does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified: i64,
    /// Digest of the content, see [`content_digest`].
    pub digest: ShortDigest,
}

/// The digest by which an unchanged file is known although its time changed.
pub fn content_digest(content: &[u8]) -> ShortDigest {
    short_digest(content)
}

/// The digest by which a key is found.
pub(crate) fn short_digest(bytes: &[u8]) -> ShortDigest {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|i| digest[i])
}

/// The time of change that means "no file".
const NO_SOURCE: i64 = i64::MIN;

/// The cold part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where the key begins in the keys file.
    pub key_offset: u64,
    /// Length of the key.
    pub key_length: u32,
    /// CRC32C of the key.
    pub key_check: u32,
    /// Digest of the key.
    pub key_digest: ShortDigest,
    /// The file behind the row, if there is one.
    pub source: Option<Source>,
}

impl Record {
    /// The record as it lies in the file.
    pub fn encode(&self) -> [u8; RECORD] {
        let none = Source { size: 0, modified: NO_SOURCE, digest: [0; 16] };
        let source = self.source.unwrap_or(none);
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.key_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key_length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.key_check.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.key_digest);
        bytes[32..40].copy_from_slice(&source.size.to_le_bytes());
        bytes[40..48].copy_from_slice(&source.modified.to_le_bytes());
        bytes[48..].copy_from_slice(&source.digest);
        bytes
    }

    /// Reads a record; any 64 bytes are one.
    pub fn decode(bytes: &[u8]) -> Self {
        let digest = |at: usize| bytes[at..at + 16].try_into().expect("16 bytes");
        let source = Source {
            size: u64_at(bytes, 32),
            modified: u64_at(bytes, 40) as i64,
            digest: digest(48),
        };
        Self {
            key_offset: u64_at(bytes, 0),
            key_length: u32_at(bytes, 8),
            key_check: u32_at(bytes, 12),
            key_digest: digest(16),
            source: (source.modified != NO_SOURCE).then_some(source),
        }
    }
}

/// The checksum of a row: its number, then its columns in file order.
pub(crate) fn row_check(row: u32, columns: [&[u8]; 5]) -> u32 {
    let start = crc32c::crc32c(&row.to_le_bytes());
    columns.iter().fold(start, |check, bytes| crc32c::crc32c_append(check, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let source = Source { size: 5, modified: -1, digest: [3; 16] };
        for source in [None, Some(source)] {
            let record = Record {
                key_offset: 1 << 40,
                key_length: 3,
                key_check: 0xDEAD_BEEF,
                key_digest: short_digest(b"abc"),
                source,
            };
            assert_eq!(Record::decode(&record.encode()), record);
        }
        // First half of the digest that FIPS 180-2 gives for "abc".
        assert_eq!(short_digest(b"abc")[..4], [0xBA, 0x78, 0x16, 0xBF]);
    }
}
