//! Opens, searches, verifies and compacts a folder whose files are fuzzed parts of a real index.
//!
//! The input is a list of changes (file, offset, bytes) with checksums put right where asked,
//! so that the checks behind the checksums are reached as well.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sextant::index::{Filter, Index, NewRow, ScanOptions, Tags, Writer};
use sextant::{Embedding, Modality, SpaceId};

const FILES: [&str; 5] = ["head", "rows-000001", "keys-000001", "log-000001", "sketch-000001"];
const SLOT: usize = 4096;

#[derive(Debug, Arbitrary)]
struct Change {
    file: u8,
    offset: u32,
    bytes: Vec<u8>,
    truncate: bool,
}

#[derive(Debug, Arbitrary)]
struct Input {
    changes: Vec<Change>,
    repair_head: bool,
    repair_log: bool,
}

fn space() -> SpaceId {
    SpaceId::from_bytes([1; 32])
}

/// The files of a small sound index.
fn seed() -> &'static Vec<Vec<u8>> {
    static SEED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i");
        let mut writer = Index::create(&path, space(), 8).unwrap();
        let tags = Tags::new(["a=b".parse().unwrap()]).unwrap();
        for row in 0..6u8 {
            let vector = (0..8).map(|i| f32::from(i * row % 5) + 0.5).collect();
            let embedding = Embedding::new(space(), Modality::Image, vector).unwrap();
            let key = [b'k', row];
            writer.append(&[NewRow { tags: &tags, ..NewRow::new(&key, &embedding) }]).unwrap();
        }
        writer.remove(&[b'k', 2]).unwrap();
        writer.build_sketch().unwrap();
        FILES.iter().map(|file| fs::read(path.join(file)).unwrap()).collect()
    })
}

/// Makes the checksums of all header slots fit.
fn repair_head(head: &mut [u8]) {
    for slot in head.chunks_exact_mut(SLOT) {
        let check = crc32c::crc32c(&slot[..SLOT - 4]);
        slot[SLOT - 4..].copy_from_slice(&check.to_le_bytes());
    }
}

/// Makes the checksums of the log's records fit, as far as it can be walked.
fn repair_log(log: &mut [u8]) {
    let mut at = 0;
    while at + 12 <= log.len() {
        let length = u32::from_le_bytes(log[at + 4..at + 8].try_into().unwrap()) as usize;
        let Some(payload) = log.get(at + 12..(at + 12).saturating_add(length)) else { return };
        let check = crc32c::crc32c_append(crc32c::crc32c(&log[at..at + 8]), payload);
        log[at + 8..at + 12].copy_from_slice(&check.to_le_bytes());
        at += 12 + length;
    }
}

fn use_index(folder: &Path) {
    let Ok(reader) = Index::open(folder) else { return };
    let vector = vec![1.0; reader.dimension()];
    let query = Embedding::new(reader.space(), Modality::Text, vector).unwrap();
    for fast in [false, true] {
        let options = ScanOptions { threads: 1, fast, rescore: true };
        let filter = Filter { prefix: b"k".to_vec(), ..Filter::default() };
        let _ = reader.search(std::slice::from_ref(&query), 5, &filter, &options);
    }
    let _ = reader.verify(|_| {});
    let _ = reader.entry(0);
    let _ = reader.mean(Modality::Image, 10);
    drop(reader);
    if let Ok(mut writer) = Writer::open_any(folder) {
        let _ = writer.remove(&[b'k', 1]);
        let _ = writer.compact(true);
    }
}

fuzz_target!(|input: Input| {
    let mut files = seed().clone();
    for change in &input.changes {
        let file = &mut files[usize::from(change.file) % FILES.len()];
        let offset = change.offset as usize % (file.len() + 1);
        if change.truncate {
            file.truncate(offset);
        }
        for (byte, new) in file[offset.min(file.len())..].iter_mut().zip(&change.bytes) {
            *byte = *new;
        }
    }
    if input.repair_head {
        repair_head(&mut files[0]);
    }
    if input.repair_log {
        repair_log(&mut files[3]);
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in FILES.iter().zip(&files) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    use_index(folder.path());
});
