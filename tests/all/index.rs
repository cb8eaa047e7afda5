//! The index by its public interface: what goes in comes out, in the right order.

use sextant::index::{
    Filter, Index, IndexError, Keys, NewRow, NpyWriter, ScanOptions, Tag, Tags, Writer,
};
use sextant::{Embedding, Modality, SpaceId};

/// A space for tests.
pub fn space(byte: u8) -> SpaceId {
    SpaceId::from_bytes([byte; 32])
}

/// Reproducible numbers in `[-1, 1)`, close to normally distributed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub fn vector(&mut self, dimension: usize) -> Vec<f32> {
        let mut uniform = || (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        (0..dimension).map(|_| uniform() + uniform() + uniform()).collect()
    }

    pub fn embedding(&mut self, dimension: usize) -> Embedding {
        Embedding::new(space(1), Modality::Image, self.vector(dimension)).unwrap()
    }
}

fn key(at: usize) -> Vec<u8> {
    format!("photos/{at:05}.jpg").into_bytes()
}

/// An index of `count` rows, and their vectors.
fn filled(dimension: usize, count: usize) -> (tempfile::TempDir, Vec<Embedding>) {
    let folder = tempfile::tempdir().unwrap();
    let mut noise = Noise::new(dimension as u64);
    let rows: Vec<Embedding> = (0..count).map(|_| noise.embedding(dimension)).collect();
    let mut writer = Index::create(folder.path().join("i"), space(1), dimension).unwrap();
    let keys: Vec<Vec<u8>> = (0..count).map(key).collect();
    let new: Vec<NewRow> = keys.iter().zip(&rows).map(|(k, e)| NewRow::new(k, e)).collect();
    for part in new.chunks(700) {
        writer.append(part).unwrap();
        writer.commit().unwrap();
    }
    (folder, rows)
}

/// The answer by the plainest means: dequantised rows, all similarities, a stable sort.
fn by_hand(reader: &sextant::index::Reader, query: &Embedding) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = reader
        .matching(&Filter::default())
        .unwrap()
        .into_iter()
        .map(|row| {
            let vector = reader.vector(row).unwrap();
            let sum: f64 =
                vector.iter().zip(query.values()).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            (row, sum as f32)
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[test]
fn finds_the_same_rows_as_comparing_by_hand() {
    for (dimension, count) in [(3, 50), (64, 1024), (100, 2500), (384, 3000)] {
        let (folder, _) = filled(dimension, count);
        let reader = Index::open(folder.path().join("i")).unwrap();
        let mut noise = Noise::new(99);
        let queries: Vec<Embedding> = (0..19).map(|_| noise.embedding(dimension)).collect();
        for threads in [1, 0] {
            let options = ScanOptions { threads, ..ScanOptions::default() };
            let found = reader.search(&queries, 10, &Filter::default(), &options).unwrap();
            for (query, hits) in queries.iter().zip(found) {
                let expected = by_hand(&reader, query);
                assert_eq!(hits.len(), 10);
                for (hit, (row, similarity)) in hits.iter().zip(&expected) {
                    assert!((hit.similarity - similarity).abs() < 1e-5, "{dimension}");
                    // Rows that differ by less than rounding may change places.
                    assert!(hit.row == *row || (hit.similarity - similarity).abs() < 1e-6);
                }
            }
        }
    }
}

#[test]
fn a_row_finds_itself_first_and_carries_what_it_was_given() {
    let (folder, rows) = filled(96, 1500);
    let reader = Index::open(folder.path().join("i")).unwrap();
    let options = ScanOptions::default();
    for at in [0, 1, 699, 700, 1023, 1024, 1499] {
        let hits = reader.search(&rows[at..=at], 1, &Filter::default(), &options).unwrap();
        assert_eq!(hits[0][0].row as usize, at);
        assert!(hits[0][0].similarity > 0.9999);
        let entry = reader.entry(hits[0][0].row).unwrap();
        assert_eq!(entry.key, key(at));
        assert_eq!(reader.find(&key(at)).unwrap(), Some(at as u32));
        assert!(reader.embedding(at as u32).unwrap().similarity(&rows[at]).unwrap() > 0.9999);
    }
}

#[test]
fn asking_for_none_all_and_too_many() {
    let (folder, rows) = filled(8, 40);
    let reader = Index::open(folder.path().join("i")).unwrap();
    let search = |k| reader.search(&rows[..1], k, &Filter::default(), &ScanOptions::default());
    assert_eq!(search(0).unwrap(), [vec![]]);
    assert_eq!(search(1000).unwrap()[0].len(), 40);
    assert!(matches!(search(1025), Err(IndexError::TooManyResults { most: 1024, found: 1025 })));
    let none = reader.search(&[], 5, &Filter::default(), &ScanOptions::default()).unwrap();
    assert!(none.is_empty());
}

#[test]
fn a_new_row_with_an_old_key_replaces_it_and_removed_rows_are_gone() {
    let (folder, rows) = filled(16, 30);
    let path = folder.path().join("i");
    let before = Index::open(&path).unwrap();
    let mut writer = Writer::open(&path, space(1)).unwrap();
    assert!(writer.remove(&key(3)).unwrap());
    assert!(!writer.remove(&key(3)).unwrap());
    assert!(!writer.remove(b"never there").unwrap());
    assert_eq!(writer.append(&[NewRow::new(&key(4), &rows[20])]).unwrap(), 1);
    writer.commit().unwrap();
    let reader = Index::open(&path).unwrap();
    assert_eq!((reader.len(), before.len()), (29, 30));
    assert_eq!(reader.find(&key(3)).unwrap(), None);
    assert_eq!(reader.find(&key(4)).unwrap(), Some(30));
    let all = reader.search(&rows[3..4], 100, &Filter::default(), &ScanOptions::default());
    let found: Vec<u32> = all.unwrap()[0].iter().map(|hit| hit.row).collect();
    assert!(!found.contains(&3) && !found.contains(&4) && found.contains(&30));
    // The snapshot that was open before still has both.
    let old = before.search(&rows[3..4], 1, &Filter::default(), &ScanOptions::default()).unwrap();
    assert_eq!(old[0][0].row, 3);
}

#[test]
fn what_was_not_committed_never_was() {
    let (folder, rows) = filled(16, 5);
    let path = folder.path().join("i");
    let mut writer = Writer::open(&path, space(1)).unwrap();
    writer.append(&[NewRow::new(b"new", &rows[0])]).unwrap();
    writer.remove(&key(0)).unwrap();
    drop(writer);
    let reader = Index::open(&path).unwrap();
    assert_eq!(reader.len(), 5);
    assert_eq!(reader.find(b"new").unwrap(), None);
    // And the next writer takes the same place.
    let mut writer = Writer::open(&path, space(1)).unwrap();
    writer.append(&[NewRow::new(b"other", &rows[1])]).unwrap();
    writer.commit().unwrap();
    assert_eq!(Index::open(&path).unwrap().entry(5).unwrap().key, b"other");
}

#[test]
fn filters_let_through_exactly_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i");
    let mut noise = Noise::new(5);
    let mut writer = Index::create(&path, space(1), 32).unwrap();
    let tags: Vec<Tags> = (0..3)
        .map(|day| {
            let day = Tag::new("day", day.to_string()).unwrap();
            Tags::new([day, "camera=door".parse().unwrap()]).unwrap()
        })
        .collect();
    let vectors: Vec<Embedding> = (0..2000).map(|_| noise.embedding(32)).collect();
    let keys: Vec<Vec<u8>> = (0..2000).map(|i| format!("{}/{i}", i % 7).into_bytes()).collect();
    let rows: Vec<NewRow> = (0..2000)
        .map(|i| NewRow {
            tags: &tags[i % 3],
            time: (i % 5 != 0).then_some(i as i64 * 1000),
            modality: if i % 2 == 0 { Modality::Image } else { Modality::Text },
            ..NewRow::new(&keys[i], &vectors[i])
        })
        .collect();
    writer.append(&rows).unwrap();
    writer.commit().unwrap();
    let reader = Index::open(&path).unwrap();
    let tag = |text: &str| text.parse::<Tag>().unwrap();
    type Passes = fn(usize) -> bool;
    let cases: [(Filter, Passes); 7] = [
        (Filter { tags: vec![tag("day=1")], ..Filter::default() }, |i| i % 3 == 1),
        (Filter { tags: vec![tag("day=1"), tag("camera=door")], ..Filter::default() }, |i| {
            i % 3 == 1
        }),
        (Filter { tags: vec![tag("day=1"), tag("camera=yard")], ..Filter::default() }, |_| false),
        (Filter { modality: Some(Modality::Text), ..Filter::default() }, |i| i % 2 == 1),
        (Filter { since: Some(500_000), ..Filter::default() }, |i| i >= 500 && i % 5 != 0),
        (Filter { since: Some(500_000), until: Some(1_001_000), ..Filter::default() }, |i| {
            (500..=1001).contains(&i) && i % 5 != 0
        }),
        (Filter { prefix: b"3/".to_vec(), tags: vec![tag("day=2")], ..Filter::default() }, |i| {
            i % 7 == 3 && i % 3 == 2
        }),
    ];
    for (filter, passes) in cases {
        let expected: Vec<u32> = (0..2000).filter(|&i| passes(i)).map(|i| i as u32).collect();
        assert!(reader.matching(&filter).unwrap() == expected, "{filter:?}");
        let query = noise.embedding(32);
        let all = reader.search(&[query], 1024, &filter, &ScanOptions::default()).unwrap();
        let mut found: Vec<u32> = all[0].iter().map(|hit| hit.row).collect();
        found.sort_unstable();
        assert_eq!(found.len(), expected.len().min(1024), "{filter:?}");
        assert!(found.iter().all(|row| expected.contains(row)), "{filter:?}");
    }
}

#[test]
fn the_fast_search_agrees_with_the_exact_one_on_clustered_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i");
    let mut noise = Noise::new(8);
    let mut writer = Index::create(&path, space(1), 128).unwrap();
    let centres: Vec<Vec<f32>> = (0..200).map(|_| noise.vector(128)).collect();
    let mut near = |at: usize| {
        let noise = noise.vector(128);
        let vector = centres[at].iter().zip(noise).map(|(c, n)| c + 0.5 * n + 0.4).collect();
        Embedding::new(space(1), Modality::Image, vector).unwrap()
    };
    let vectors: Vec<Embedding> = (0..20_000).map(|i| near(i % 200)).collect();
    let queries: Vec<Embedding> = (0..20).map(|i| near(i * 10)).collect();
    let keys: Vec<Vec<u8>> = (0..vectors.len()).map(key).collect();
    let rows: Vec<NewRow> = keys.iter().zip(&vectors).map(|(k, e)| NewRow::new(k, e)).collect();
    // The last rows come after the sketch and must be found all the same.
    let (most, rest) = rows.split_at(18_000);
    writer.append(most).unwrap();
    assert!(writer.build_sketch().unwrap());
    writer.append(rest).unwrap();
    assert!(!writer.build_sketch().unwrap());
    let reader = Index::open(&path).unwrap();
    let search = |fast, filter: &Filter| {
        let options = ScanOptions { fast, ..ScanOptions::default() };
        reader.search(&queries, 10, filter, &options).unwrap()
    };
    let (exact, fast) = (search(false, &Filter::default()), search(true, &Filter::default()));
    let recall = exact.iter().zip(&fast).map(|(e, f)| e.iter().filter(|h| f.contains(h)).count());
    assert!(recall.sum::<usize>() >= 198);
    assert!(fast.iter().flatten().any(|hit| hit.row >= 18_432));
    let few = Filter { prefix: b"photos/001".to_vec(), ..Filter::default() };
    assert_eq!(search(false, &few), search(true, &few));
}

#[test]
fn what_is_exported_can_be_imported_again() {
    let (folder, _) = filled(24, 900);
    let reader = Index::open(folder.path().join("i")).unwrap();
    let (vectors, lines) = (folder.path().join("v.npy"), folder.path().join("v.jsonl"));
    let filter = Filter { prefix: b"photos/005".to_vec(), ..Filter::default() };
    let count = reader.export(&vectors, &lines, &filter, |_| {}).unwrap();
    assert_eq!(count, 100);
    let mut writer = Index::create(folder.path().join("j"), space(1), 24).unwrap();
    let keys = Keys::File(lines);
    let mut durable = Vec::new();
    let imported =
        writer.import(&vectors, &keys, Modality::Text, |rows| durable.push(rows)).unwrap();
    assert_eq!((imported.rows, imported.replaced), (100, 0));
    assert_eq!(durable, [100]);
    let again = writer.import(&vectors, &keys, Modality::Text, |_| {}).unwrap();
    assert_eq!((again.rows, again.replaced, writer.len()), (100, 100, 100));
    let copy = Index::open(folder.path().join("j")).unwrap();
    for (old, new) in (500..600).zip(100..200) {
        // Rounding what was rounded before changes nothing.
        assert_eq!(reader.vector(old).unwrap(), copy.vector(new).unwrap());
        let (old, new) = (reader.entry(old).unwrap(), copy.entry(new).unwrap());
        assert_eq!((old.key, old.modality), (new.key, new.modality));
    }
}

#[test]
fn an_import_that_does_not_fit_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = folder.path().join("v.npy");
    let write = |rows: &[[f32; 3]]| {
        let file = std::fs::File::create(&vectors).unwrap();
        let mut writer = NpyWriter::new(file, rows.len() as u64, 3).unwrap();
        rows.iter().for_each(|row| writer.row(row).unwrap());
        writer.finish().unwrap();
    };
    write(&[[1.0, 2.0, 3.0], [0.0, f32::NAN, 0.0]]);
    let keys = folder.path().join("keys.txt");
    std::fs::write(&keys, "only one\n").unwrap();
    let import = |dimension, keys: Keys| {
        let path = folder.path().join(format!("i{dimension}"));
        let writer = match Writer::open(&path, space(1)) {
            Ok(writer) => Ok(writer),
            Err(_) => Index::create(&path, space(1), dimension),
        };
        let text = writer.unwrap().import(&vectors, &keys, Modality::Image, |_| {}).unwrap_err();
        assert!(Index::open(&path).unwrap().is_empty());
        text.to_string()
    };
    let numbered = || Keys::Numbered("v.npy".into());
    assert!(import(4, numbered()).contains("has 3 components, and the index has 4"));
    assert!(import(3, Keys::File(keys)).ends_with("1 keys for 2 vectors"));
    assert!(import(3, numbered()).contains("v.npy: row 1: component 1 of the vector is not a"));
}
