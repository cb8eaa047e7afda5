//! Damaged and foreign files: found or harmless, never a panic, never a wrong row.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use sextant::index::{Filter, Index, IndexError, NewRow, ScanOptions, Tag, Tags, Writer};
use sextant::{Embedding, Modality};

use crate::index::{Noise, space};

const ROWS: usize = 1100;
const DIMENSION: usize = 70;

/// An index with everything that an index can have, and what its rows are.
struct Sample {
    folder: tempfile::TempDir,
    rows: HashMap<Vec<u8>, Embedding>,
}

fn sample() -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i");
    let mut noise = Noise::new(3);
    let mut writer = Index::create(&path, space(1), DIMENSION).unwrap();
    let mut rows = HashMap::new();
    for (day, part) in (0..ROWS).collect::<Vec<_>>().chunks(300).enumerate() {
        let tags = Tags::new([Tag::new("day", day.to_string()).unwrap()]).unwrap();
        let keys: Vec<Vec<u8>> = part.iter().map(|i| format!("key {i}").into_bytes()).collect();
        let vectors: Vec<Embedding> = part.iter().map(|_| noise.embedding(DIMENSION)).collect();
        let new: Vec<NewRow> = keys
            .iter()
            .zip(&vectors)
            .map(|(k, e)| NewRow { tags: &tags, time: Some(7), ..NewRow::new(k, e) })
            .collect();
        writer.append(&new).unwrap();
        writer.commit().unwrap();
        rows.extend(keys.into_iter().zip(vectors));
    }
    for at in [5, 6, 1099] {
        let key = format!("key {at}").into_bytes();
        assert!(writer.remove(&key).unwrap());
        rows.remove(&key);
    }
    writer.build_sketch().unwrap();
    Sample { folder, rows }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| !path.ends_with("lock")).collect()
}

/// Uses a damaged index in every way; whatever it hands out must be as it was put in. Says
/// whether something was found to be wrong.
fn use_all(folder: &Path, sample: &Sample, noise: &mut Noise) -> bool {
    let reader = match Index::open(folder) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
            assert!(error.is_damage(), "{error}");
            return true;
        }
    };
    let mut wrong = !reader.verify(|_| {}).unwrap().is_sound();
    let query = noise.embedding(DIMENSION);
    for (fast, rescore) in [(false, true), (true, true), (false, false)] {
        let options = ScanOptions { fast, rescore, threads: 1 };
        let filter = Filter { until: (!rescore).then_some(7), ..Filter::default() };
        match reader.search(std::slice::from_ref(&query), 20, &filter, &options) {
            Ok(hits) => {
                for hit in &hits[0] {
                    let key = match reader.entry(hit.row) {
                        Ok(entry) => entry.key,
                        Err(_) => {
                            wrong = true;
                            continue;
                        }
                    };
                    let expected = sample.rows[&key].similarity(&query).unwrap();
                    assert!((hit.similarity - expected).abs() < 0.02);
                }
            }
            Err(error) => {
                assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
                wrong = true;
            }
        }
    }
    wrong
}

/// A copy of the sample that a change was made to.
fn changed(sample: &Sample, file: &str, change: impl Fn(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in files(&sample.folder.path().join("i")) {
        let name = path.file_name().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        if name == file {
            change(&mut bytes);
        }
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let sample = sample();
    let mut noise = Noise::new(17);
    assert!(!use_all(&sample.folder.path().join("i"), &sample, &mut noise));
    let committed = 1100;
    for path in files(&sample.folder.path().join("i")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let length = fs::metadata(&path).unwrap().len() as usize;
        let mut harmless = 0;
        let flips = 150;
        for _ in 0..flips {
            let (at, bit) = (noise.below(length), noise.below(8));
            let copy = changed(&sample, &name, |bytes| bytes[at] ^= 1 << bit);
            let found = use_all(copy.path(), &sample, &mut noise);
            // A flip in the head of the sketch makes searches do without it, and rows beyond
            // the last committed one are not part of the index.
            let block = (128 + 4 + 8 + 4 + 64 + 4) * 1024;
            let unused = name.starts_with("rows") && at >= block && {
                let within = at - block;
                let widths = [128, 4, 8, 4, 64, 4].map(|width| width * 1024);
                let starts = widths.iter().scan(0, |end, w| Some(std::mem::replace(end, *end + w)));
                starts.zip(widths).any(|(start, width)| {
                    (start..start + width).contains(&within)
                        && (within - start) / (width / 1024) >= committed - 1024
                })
            };
            if !unused && !name.starts_with("sketch") {
                assert!(found, "{name}: byte {at}");
            }
            harmless += usize::from(!found);
        }
        assert!(name.starts_with("rows") || name.starts_with("sketch") || harmless == 0, "{name}");
    }
}

#[test]
fn truncation_anywhere_is_refused_with_the_reason() {
    let sample = sample();
    let mut noise = Noise::new(18);
    for path in files(&sample.folder.path().join("i")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let length = fs::metadata(&path).unwrap().len() as usize;
        let cuts = (0..30).map(|_| noise.below(length)).chain([0, 1, length - 1]);
        for cut in cuts.collect::<Vec<_>>() {
            let copy = changed(&sample, &name, |bytes| bytes.truncate(cut));
            let found = use_all(copy.path(), &sample, &mut noise);
            if !name.starts_with("sketch") {
                assert!(found);
                let error = Index::open(copy.path()).unwrap_err();
                assert!(matches!(error, IndexError::Truncated { .. }), "{error}");
                assert!(Writer::open(copy.path(), space(1)).is_err());
            }
            fs::remove_file(copy.path().join(&name)).unwrap();
            use_all(copy.path(), &sample, &mut noise);
        }
    }
}

#[test]
fn damage_is_named_and_compaction_saves_the_rest() {
    let sample = sample();
    let at = 128 * 40 + 3;
    let copy = changed(&sample, "rows-000001", |bytes| bytes[at] ^= 4);
    let report = Index::open(copy.path()).unwrap().verify(|_| {}).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!((report.damage[0].row, report.damage[0].offset), (Some(40), 128 * 40));
    assert!(report.damage[0].path.ends_with("rows-000001"));
    let mut writer = Writer::open(copy.path(), space(1)).unwrap();
    let error = writer.compact(false).unwrap_err();
    assert!(error.to_string().contains("row 40"), "{error}");
    let done = writer.compact(true).unwrap();
    assert_eq!((done.rows, done.removed, done.damaged), (1096, 3, 1));
    let reader = Index::open(copy.path()).unwrap();
    assert!(reader.verify(|_| {}).unwrap().is_sound());
    assert_eq!(reader.len(), 1096);
    assert_eq!(reader.entry(reader.find(b"key 41").unwrap().unwrap()).unwrap().time, Some(7));
}

#[test]
fn a_file_truncated_under_a_reader_is_an_error_and_not_the_end() {
    let sample = sample();
    let copy = changed(&sample, "", |_| {});
    let reader = Index::open(copy.path()).unwrap();
    let query = Noise::new(1).embedding(DIMENSION);
    let search = || {
        reader.search(std::slice::from_ref(&query), 5, &Filter::default(), &ScanOptions::default())
    };
    assert_eq!(search().unwrap()[0].len(), 5);
    let rows = fs::File::options().write(true).open(copy.path().join("rows-000001")).unwrap();
    rows.set_len(5000).unwrap();
    let error = search().unwrap_err();
    assert!(matches!(error, IndexError::Unreadable { .. }), "{error}");
    assert!(reader.entry(700).is_err());
    assert!(reader.verify(|_| {}).is_err());
}

#[test]
fn each_bad_input_has_its_own_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let says = |error: IndexError, words: &str| {
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(!text.contains('\n'));
    };
    says(Index::open(path.join("none")).unwrap_err(), "no such index");
    fs::write(path.join("file"), "x").unwrap();
    says(Index::open(path.join("file")).unwrap_err(), "this is a file");
    says(Index::create(path.join("file"), space(1), 4).unwrap_err(), "this is a file");
    says(Index::create(path, space(1), 4).unwrap_err(), "not empty");
    fs::create_dir(path.join("empty")).unwrap();
    says(Index::open(path.join("empty")).unwrap_err(), "no file named `head`");
    says(Index::create(path.join("i"), space(1), 0).unwrap_err(), "1 to 4096 dimensions");
    says(Index::create(path.join("i"), space(1), 5000).unwrap_err(), "1 to 4096 dimensions");

    let mut writer = Index::create(path.join("i"), space(1), 4).unwrap();
    says(Index::create(path.join("i"), space(1), 4).unwrap_err(), "exists already");
    let locked = Writer::open(path.join("i"), space(1)).unwrap_err();
    says(locked, "locked by this process");
    let row = |vector: &'static [f32]| NewRow {
        key: b"k",
        vector,
        space: space(1),
        modality: Modality::Image,
        tags: Box::leak(Box::new(Tags::none())),
        time: None,
        source: None,
    };
    let good = row(&[1.0, 0.0, 0.0, 0.0]);
    let bad = [
        (row(&[1.0]), "row 1 of the batch has 1 components, and the index has 4"),
        (row(&[0.0, f32::NAN, 1.0, 1.0]), "row 1 of the batch: component 1 of the vector is not"),
        (row(&[0.0; 4]), "row 1 of the batch: the vector has length zero"),
        (NewRow { key: b"", ..good }, "a key has 1 to 65535 bytes, not 0"),
        (NewRow { key: &[0; 65_536], ..good }, "a key has 1 to 65535 bytes, not 65536"),
        (NewRow { space: space(2), ..good }, "use the model that made the index"),
    ];
    for (row, words) in bad {
        says(writer.append(&[good, row]).unwrap_err(), words);
    }
    writer.commit().unwrap();
    assert_eq!(Index::open(path.join("i")).unwrap().len(), 0);

    let odd: &[u8] = b"a\nb\xff\xfe\0c";
    writer.append(&[NewRow { key: odd, ..good }]).unwrap();
    writer.commit().unwrap();
    drop(writer);
    says(Writer::open(path.join("i"), space(2)).unwrap_err(), "use the model that made the index");
    let reader = Index::open(path.join("i")).unwrap();
    assert_eq!(reader.entry(0).unwrap().key, odd);
    says(reader.entry(1).unwrap_err(), "row 1: the index has 1 rows");
    let search = |space, vector: Vec<f32>| {
        let query = Embedding::new(space, Modality::Text, vector).unwrap();
        reader.search(&[query], 1, &Filter::default(), &ScanOptions::default())
    };
    says(search(space(2), vec![1.0; 4]).unwrap_err(), "use the model that made the index");
    says(search(space(1), vec![1.0; 5]).unwrap_err(), "the query has 5 components");
}

#[cfg(unix)]
#[test]
fn a_read_only_index_can_be_read_and_says_so_when_written() {
    use std::os::unix::fs::PermissionsExt;
    let sample = sample();
    let path = sample.folder.path().join("i");
    let mode = |mode| {
        for file in files(&path).into_iter().chain([path.join("lock")]) {
            fs::set_permissions(file, fs::Permissions::from_mode(mode & 0o666)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o555);
    // The superuser may write all the same; then there is nothing to see here.
    let writable = fs::File::create(path.join("probe")).is_ok();
    let opened = Writer::open(&path, space(1)).map(|_| ());
    let read = Index::open(&path).map(|reader| reader.len());
    mode(0o755);
    assert_eq!(read.unwrap(), 1097);
    if !writable {
        let text = opened.unwrap_err().to_string();
        assert!(text.contains("cannot be written"), "{text}");
    }
}
