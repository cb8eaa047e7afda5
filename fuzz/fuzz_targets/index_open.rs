//! Opens, searches, verifies and compacts an index some of whose bytes were changed.
//!
//! The input is a list of changes to the files of a real index. Where it asks for that, checksums
//! are put right afterwards, so that the checks behind the checksums are reached as well; where it
//! does not, no search may hand out a row that was not there.

#![no_main]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sextant::index::{Filter, Index, NewRow, Reader, ScanOptions, Source, Tags, Writer};
use sextant::{Embedding, Modality, SpaceId};

const FILES: [&str; 5] = ["head", "rows-000001", "keys-000001", "log-000001", "sketch-000001"];
const HEAD: usize = 0;
const ROWS: usize = 1;
const LOG: usize = 3;
const SKETCH: usize = 4;
const SLOT: usize = 4096;
const DIMENSION: usize = 8;
/// Bytes of a row in each column of the rows file: vector, scale, time, group, record, checksum.
const COLUMNS: [usize; 6] = [64, 4, 8, 4, 64, 4];
const BLOCK: usize = 1024;

/// Where bytes are changed: anywhere, or where a few of them mean much.
#[derive(Debug, Arbitrary)]
enum Place {
    Anywhere { file: u8, offset: u32 },
    Slot { slot: u8, field: u8 },
    Row { row: u16, column: u8, within: u8 },
    Log { offset: u8 },
    SketchHeader { offset: u8 },
}

#[derive(Debug, Arbitrary)]
enum Change {
    Put { place: Place, bytes: [u8; 4] },
    Fill { place: Place, byte: u8, count: u8 },
    Truncate { file: u8, length: u32 },
    Append { file: u8, bytes: Vec<u8> },
    Remove { file: u8 },
}

#[derive(Debug, Arbitrary)]
struct Input {
    changes: Vec<Change>,
    /// More than a block of rows, and so a sketch.
    large: bool,
    repair_head: bool,
    repair_rows: bool,
    repair_log: bool,
    repair_sketch: bool,
}

/// The files of a sound index, and what a search in it may find.
struct Sound {
    files: Vec<Vec<u8>>,
    similarities: HashMap<Vec<u8>, f32>,
}

fn space() -> SpaceId {
    SpaceId::from_bytes([1; 32])
}

fn query() -> Embedding {
    Embedding::new(space(), Modality::Text, vec![1.0; DIMENSION]).unwrap()
}

/// Keys and similarities of all rows that a search finds.
fn similarities(path: &Path) -> Vec<(Vec<u8>, f32)> {
    let reader = Index::open(path).unwrap();
    let all = reader.search(&[query()], 1024, &Filter::default(), &ScanOptions::default());
    let key = |row| reader.entry(row).unwrap().key;
    all.unwrap()[0].iter().map(|hit| (key(hit.row), hit.similarity)).collect()
}

/// Writes a real index: two commits, tags, times, sources, a removed row and, if large, a sketch.
/// Gives what a search finds after either commit.
fn write(path: &Path, rows: usize) -> HashMap<Vec<u8>, f32> {
    let mut writer = Index::create(path, space(), DIMENSION).unwrap();
    let tags = [Tags::default(), Tags::new(["a=b".parse().unwrap()]).unwrap()];
    let embeddings = (0..rows).map(|row| {
        let vector = (0..DIMENSION).map(|i| ((i + 1) * (row + 3) % 17) as f32 - 7.5).collect();
        Embedding::new(space(), Modality::Image, vector).unwrap()
    });
    let (embeddings, keys): (Vec<_>, Vec<_>) =
        embeddings.enumerate().map(|(row, e)| (e, format!("k{row}"))).unzip();
    let source = Source { size: 9, modified: 7, digest: [5; 16] };
    let new: Vec<NewRow> = (0..rows)
        .map(|row| NewRow {
            tags: &tags[row % 2],
            time: (row % 3 > 0).then_some(row as i64 * 1000),
            source: (row % 5 == 0).then_some(source),
            ..NewRow::new(keys[row].as_bytes(), &embeddings[row])
        })
        .collect();
    writer.append(&new[..rows - 2]).unwrap();
    writer.commit().unwrap();
    let mut found = similarities(path);
    writer.append(&new[rows - 2..]).unwrap();
    writer.remove(b"k2").unwrap();
    writer.commit().unwrap();
    writer.build_sketch().unwrap();
    found.extend(similarities(path));
    found.into_iter().collect()
}

fn sound(large: bool) -> &'static Sound {
    static SOUND: [OnceLock<Sound>; 2] = [OnceLock::new(), OnceLock::new()];
    SOUND[usize::from(large)].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i");
        let rows = if large { BLOCK + 2 } else { 6 };
        let similarities = write(&path, rows);
        let files: Vec<_> =
            FILES.iter().map(|file| fs::read(path.join(file)).unwrap_or_default()).collect();
        assert_eq!(files[SKETCH].is_empty(), !large);
        Sound { files, similarities }
    })
}

/// The place as file and offset, or nothing where the file has none.
fn find(place: &Place) -> (usize, usize) {
    match *place {
        Place::Anywhere { file, offset } => (usize::from(file) % FILES.len(), offset as usize),
        Place::Slot { slot, field } => {
            (HEAD, usize::from(slot % 4) * SLOT + usize::from(field % 128))
        }
        Place::Row { row, column, within } => (ROWS, {
            let (row, column) = (usize::from(row), usize::from(column) % COLUMNS.len());
            let width = COLUMNS[column];
            let before: usize = COLUMNS[..column].iter().sum();
            let block = row / BLOCK * BLOCK * COLUMNS.iter().sum::<usize>();
            block + before * BLOCK + row % BLOCK * width + usize::from(within) % width
        }),
        Place::Log { offset } => (LOG, usize::from(offset)),
        Place::SketchHeader { offset } => (SKETCH, usize::from(offset % 64)),
    }
}

fn apply(change: &Change, files: &mut [Vec<u8>]) {
    let (place, bytes) = match change {
        Change::Put { place, bytes } => (place, bytes.to_vec()),
        Change::Fill { place, byte, count } => (place, vec![*byte; usize::from(*count)]),
        Change::Truncate { file, length } => {
            let file = &mut files[usize::from(*file) % FILES.len()];
            let length = *length as usize % (file.len() + 1);
            return file.truncate(length);
        }
        Change::Append { file, bytes } => {
            return files[usize::from(*file) % FILES.len()].extend(bytes);
        }
        Change::Remove { file } => return files[usize::from(*file) % FILES.len()].clear(),
    };
    let (file, offset) = find(place);
    let file = &mut files[file];
    let offset = offset % (file.len() + 1);
    for (byte, new) in file[offset..].iter_mut().zip(bytes) {
        *byte = new;
    }
}

fn put(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes the checksums of all header slots fit.
fn repair_head(head: &mut [u8]) {
    for slot in head.as_chunks_mut::<SLOT>().0 {
        let check = crc32c::crc32c(&slot[..SLOT - 4]);
        put(slot, SLOT - 4, check);
    }
}

/// Makes the checksums of the rows fit.
fn repair_rows(rows: &mut [u8]) {
    let width: usize = COLUMNS.iter().sum();
    for (number, block) in rows.chunks_exact_mut(BLOCK * width).enumerate() {
        for row in 0..BLOCK {
            let mut check = crc32c::crc32c(&((number * BLOCK + row) as u32).to_le_bytes());
            let mut column = 0;
            for width in &COLUMNS[..5] {
                check = crc32c::crc32c_append(check, &block[column + row * width..][..*width]);
                column += BLOCK * width;
            }
            put(block, column + row * 4, check);
        }
    }
}

/// Makes the checksums of the log's records fit, as far as it can be walked.
fn repair_log(log: &mut [u8]) {
    let mut at = 0;
    while at + 12 <= log.len() {
        let length = u32::from_le_bytes(log[at + 4..at + 8].try_into().unwrap()) as usize;
        let Some(payload) = log.get(at + 12..(at + 12).saturating_add(length)) else { return };
        let check = crc32c::crc32c_append(crc32c::crc32c(&log[at..at + 8]), payload);
        put(log, at + 8, check);
        at += 12 + length;
    }
}

/// Makes the checksums in the sketch's header fit.
fn repair_sketch(sketch: &mut [u8]) {
    if sketch.len() >= 2 * SLOT {
        let centre = crc32c::crc32c(&sketch[SLOT..2 * SLOT]);
        put(sketch, 28, centre);
        repair_head(&mut sketch[..SLOT]);
    }
}

/// Searches in both ways, under filters; gives what was found with its keys.
fn search(reader: &Reader, query: &Embedding) -> Vec<(Vec<u8>, f32)> {
    let mut found = Vec::new();
    let filters = [
        Filter::default(),
        Filter { prefix: b"k1".to_vec(), ..Filter::default() },
        Filter { tags: vec!["a=b".parse().unwrap()], since: Some(2000), ..Filter::default() },
    ];
    for (fast, filter) in
        [false, true].into_iter().flat_map(|f| filters.iter().map(move |x| (f, x)))
    {
        let options = ScanOptions { threads: 1, fast, rescore: true };
        let hits = reader.search(std::slice::from_ref(query), 5, filter, &options);
        for hit in hits.into_iter().flatten().flatten() {
            assert!(hit.similarity.is_finite(), "{}", hit.similarity);
            if let Ok(entry) = reader.entry(hit.row) {
                found.push((entry.key, hit.similarity));
            }
        }
    }
    found
}

fn use_index(folder: &Path, sound: &Sound, repaired: bool) {
    let Ok(reader) = Index::open(folder) else { return };
    let Ok(query) = Embedding::new(reader.space(), Modality::Text, vec![1.0; reader.dimension()])
    else {
        return;
    };
    for (key, similarity) in search(&reader, &query) {
        if !repaired {
            let expected = sound.similarities.get(&key);
            assert_eq!(expected, Some(&similarity), "a row that was not there: {key:?}");
        }
    }
    let _ = reader.verify(|_| {});
    let _ = reader.mean(Modality::Image, 10);
    drop(reader);
    if let Ok(mut writer) = Writer::open_any(folder) {
        let _ = writer.remove(b"k1");
        let _ = writer.compact(true);
    }
}

fuzz_target!(|input: Input| {
    let sound = sound(input.large);
    let mut files = sound.files.clone();
    for change in &input.changes {
        apply(change, &mut files);
    }
    let repairs: [(bool, usize, fn(&mut [u8])); 4] = [
        (input.repair_head, HEAD, repair_head),
        (input.repair_rows, ROWS, repair_rows),
        (input.repair_log, LOG, repair_log),
        (input.repair_sketch, SKETCH, repair_sketch),
    ];
    for (_, file, repair) in repairs.iter().filter(|(wanted, ..)| *wanted) {
        repair(&mut files[*file]);
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in FILES.iter().zip(&files).filter(|(_, bytes)| !bytes.is_empty()) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    use_index(folder.path(), sound, repairs.iter().any(|(wanted, ..)| *wanted));
});
