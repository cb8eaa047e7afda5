//! Speed of the index against the speed at which this machine reads memory.
//!
//! Prints a table of alternating medians first, then lets criterion time the same searches.
//! Every answer is compared with one that was computed in another way. `SEXTANT_BENCH_ROWS`
//! changes the million rows.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use rayon::prelude::*;
use sextant::index::{Filter, Hit, Index, NewRow, Reader, ScanOptions, Tag, Tags};
use sextant::{Embedding, Modality, SpaceId};

/// Set to the folder of an index in the process that only searches it.
const SEARCH_ONLY: &str = "SEXTANT_BENCH_SEARCH_ONLY";

const EXACT: ScanOptions = ScanOptions { threads: 1, fast: false, rescore: true };

/// A generator of reproducible vectors around 1000 centres, as pictures cluster.
struct Vectors {
    state: u64,
    centres: Vec<Vec<f32>>,
}

impl Vectors {
    fn new(dimension: usize) -> Self {
        let mut vectors = Self { state: 0x1234_5678_9ABC_DEF1, centres: Vec::new() };
        vectors.centres = (0..1000).map(|_| vectors.noise(dimension)).collect();
        vectors
    }

    fn noise(&mut self, dimension: usize) -> Vec<f32> {
        let next = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            // Four 16-bit parts added: close to normal.
            (0..4).map(|part| (*state >> (16 * part) & 0xFFFF) as f32).sum::<f32>() / 32_768.0 - 4.0
        };
        (0..dimension).map(|_| next(&mut self.state)).collect()
    }

    fn next(&mut self) -> Vec<f32> {
        let dimension = self.centres[0].len();
        let noise = self.noise(dimension);
        let centre = &self.centres[(self.state >> 20) as usize % 1000];
        centre.iter().zip(noise).map(|(c, n)| 0.7 * c + n).collect()
    }
}

fn space() -> SpaceId {
    SpaceId::from_bytes([1; 32])
}

/// Builds an index in which one row in a hundred has the tag `rare=yes`.
fn build(folder: &Path, rows: usize, dimension: usize) -> (Reader, Vec<Embedding>) {
    let mut vectors = Vectors::new(dimension);
    let mut writer = Index::create(folder, space(), dimension).unwrap();
    let rare = Tags::new(["rare=yes".parse().unwrap()]).unwrap();
    let common = Tags::none();
    for start in (0..rows).step_by(16_384) {
        let range = start..rows.min(start + 16_384);
        let batch: Vec<(Vec<u8>, Vec<f32>)> =
            range.map(|row| (row.to_string().into_bytes(), vectors.next())).collect();
        let new: Vec<NewRow> = (start..)
            .zip(&batch)
            .map(|(row, (key, vector))| NewRow {
                key,
                vector,
                space: space(),
                modality: Modality::Image,
                tags: if row % 100 == 7 { &rare } else { &common },
                time: Some(row as i64),
                source: None,
            })
            .collect();
        writer.append(&new).unwrap();
        writer.commit().unwrap();
    }
    writer.build_sketch().unwrap();
    let queries = (0..64)
        .map(|_| Embedding::new(space(), Modality::Image, vectors.next()).unwrap())
        .collect();
    (Index::open(folder).unwrap(), queries)
}

fn search(reader: &Reader, queries: &[Embedding], options: &ScanOptions) -> Vec<Vec<Hit>> {
    reader.search(queries, 10, &Filter::default(), options).unwrap()
}

/// Fails unless the search finds the rows that comparing every row by itself finds.
fn assert_exact(reader: &Reader, query: &Embedding) {
    let mut all: Vec<(f32, u32)> = reader
        .matching(&Filter::default())
        .unwrap()
        .into_iter()
        .map(|row| {
            let vector = reader.vector(row).unwrap();
            (query.values().iter().zip(&vector).map(|(a, b)| a * b).sum(), row)
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let hits = search(reader, std::slice::from_ref(query), &EXACT);
    let (found, expected): (Vec<u32>, Vec<u32>) =
        hits[0].iter().zip(&all).map(|(hit, (_, row))| (hit.row, *row)).unzip();
    assert_eq!(found, expected);
}

/// Reads memory from start to end, on some threads.
fn read_memory(words: &[u64], threads: usize) -> u64 {
    let sum = |words: &[u64]| {
        let (whole, _) = words.as_chunks::<16>();
        let mut sums = [0u64; 16];
        for chunk in whole {
            for (sum, word) in sums.iter_mut().zip(chunk) {
                *sum ^= word;
            }
        }
        sums.iter().fold(0, |all, sum| all ^ sum)
    };
    // Threads that wait already, as those of a search do: starting some takes as long as this.
    let part = words.len().div_ceil(threads);
    words.par_chunks(part).map(sum).reduce(|| 0, |all, part| all ^ part)
}

/// Runs several things in turn and returns the median and the best time of each.
fn alternate(rounds: usize, tasks: &mut [(&str, &mut dyn FnMut())]) -> Vec<[Duration; 2]> {
    let mut times = vec![Vec::new(); tasks.len()];
    for _ in 0..rounds {
        for ((_, task), times) in tasks.iter_mut().zip(&mut times) {
            let start = Instant::now();
            task();
            times.push(start.elapsed());
        }
    }
    times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            [times[times.len() / 2], times[0]]
        })
        .collect()
}

fn report(reader: &Reader, queries: &[Embedding]) {
    let all = ScanOptions { threads: 0, ..EXACT };
    let fast = ScanOptions { fast: true, ..EXACT };
    let bytes = reader.len() as usize * reader.dimension().next_multiple_of(64);
    let memory: Vec<u64> = (0..bytes as u64 / 8).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % queries.len();
        &queries[at..=at]
    };
    let filtered = |filter: &Filter, queries: &[Embedding]| {
        black_box(reader.search(queries, 10, filter, &EXACT).unwrap());
    };
    let rare = Filter { tags: vec![Tag::new("rare", "yes").unwrap()], ..Filter::default() };
    let half = Filter { since: Some(i64::from(reader.len()) / 2), ..Filter::default() };
    let passing = Filter { since: Some(0), ..Filter::default() };
    let mut tasks: [(&str, &mut dyn FnMut()); 9] = [
        ("read memory, 1 thread", &mut || {
            black_box(read_memory(&memory, 1));
        }),
        ("search, 1 thread", &mut || {
            black_box(search(reader, next(), &EXACT));
        }),
        ("read memory, all threads", &mut || {
            black_box(read_memory(&memory, threads));
        }),
        ("search, all threads", &mut || {
            black_box(search(reader, &queries[..1], &all));
        }),
        ("16 queries at once, 1 thread", &mut || {
            black_box(search(reader, &queries[..16], &EXACT));
        }),
        ("fast search, 1 thread", &mut || {
            black_box(search(reader, &queries[1..2], &fast));
        }),
        ("filter: 1 row in 100", &mut || filtered(&rare, &queries[..1])),
        ("filter: the later half", &mut || filtered(&half, &queries[..1])),
        ("filter: every row passes", &mut || filtered(&passing, &queries[..1])),
    ];
    let times = alternate(15, &mut tasks);
    println!(
        "\n{} rows of {}, {} MB of vectors",
        reader.len(),
        reader.dimension(),
        bytes / 1_000_000
    );
    println!("15 alternating runs: median (best); on a busy machine only the best means much");
    println!("| what | ms | GB/s of all rows | against |");
    println!("|---|---|---|---|");
    for (at, ((name, _), [median, best])) in tasks.iter().zip(&times).enumerate() {
        let ratio = |other: usize, which: usize| {
            times[other][which].as_secs_f64() / times[at][which].as_secs_f64()
        };
        let against = match at {
            1 | 3 => {
                let percent = |which| 100.0 * ratio(at - 1, which);
                format!("{:.0} % ({:.0} %) of reading", percent(0), percent(1))
            }
            4 => format!("{:.1} ({:.1}) × the rate", 16.0 * ratio(1, 0), 16.0 * ratio(1, 1)),
            5..=8 => format!("{:.2} ({:.2}) × as fast as all rows", ratio(1, 0), ratio(1, 1)),
            _ => String::new(),
        };
        let (median, best) = (median.as_secs_f64(), best.as_secs_f64());
        let (rate, most) = (bytes as f64 / median / 1e9, bytes as f64 / best / 1e9);
        let (median, best) = (median * 1e3, best * 1e3);
        println!("| {name} | {median:.2} ({best:.2}) | {rate:.1} ({most:.1}) | {against} |");
    }
}

/// Searches an index in a process of its own, as this one holds vectors and tables, and says
/// how much memory that takes beyond the page cache.
fn report_memory(folder: &Path) {
    let program = std::env::current_exe().unwrap();
    let answer = std::process::Command::new(program).env(SEARCH_ONLY, folder).output().unwrap();
    print!("{}", String::from_utf8_lossy(&answer.stdout));
}

/// What that process does.
fn search_only(folder: &Path) {
    let reader = Index::open(folder).unwrap();
    let mut vectors = Vectors::new(reader.dimension());
    let queries: Vec<Embedding> = (0..16)
        .map(|_| Embedding::new(space(), Modality::Image, vectors.next()).unwrap())
        .collect();
    drop(vectors);
    for (fast, count) in [(false, 1), (false, 16), (true, 1)] {
        search(&reader, &queries[..count], &ScanOptions { threads: 0, fast, rescore: true });
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
        println!(
            "resident beyond the page cache after searching {count} at once{}: {}",
            if fast { ", fast" } else { "" },
            kilobytes.map_or("unknown on this system".into(), |k| format!("{:.1} MB", k / 1024.0))
        );
    }
}

fn scans(criterion: &mut Criterion) {
    let rows = std::env::var("SEXTANT_BENCH_ROWS").map_or(1_000_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    for dimension in [384, 512] {
        let path = folder.path().join(dimension.to_string());
        let (reader, queries) = build(&path, rows, dimension);
        assert_exact(&reader, &queries[0]);
        report(&reader, &queries);
        report_memory(&path);
        let mut group = criterion.benchmark_group(format!("{rows} rows of {dimension}"));
        group.sample_size(20).throughput(Throughput::Bytes((rows * dimension) as u64));
        for (name, count, threads, fast) in [
            ("1 query, 1 thread", 1, 1, false),
            ("1 query, all threads", 1, 0, false),
            ("16 queries, 1 thread", 16, 1, false),
            ("1 query, 1 thread, fast", 1, 1, true),
        ] {
            let options = ScanOptions { threads, fast, ..EXACT };
            let expected = search(&reader, &queries[..count], &options);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    assert_eq!(search(&reader, black_box(&queries[..count]), &options), expected);
                });
            });
        }
        group.finish();
    }
    let (reader, queries) = build(&folder.path().join("small"), 10_000, 384);
    assert_exact(&reader, &queries[0]);
    let expected = search(&reader, &queries[..1], &EXACT);
    criterion.bench_function("10000 rows of 384, 1 query, 1 thread", |bencher| {
        bencher.iter(|| assert_eq!(search(&reader, black_box(&queries[..1]), &EXACT), expected));
    });
}

/// Rows a second of durable import, every batch committed.
fn import(criterion: &mut Criterion) {
    const ROWS: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.npy");
    let mut vectors = Vectors::new(384);
    let file = std::fs::File::create(&path).unwrap();
    let mut array = sextant::index::NpyWriter::new(file, ROWS as u64, 384).unwrap();
    (0..ROWS).for_each(|_| array.row(&vectors.next()).unwrap());
    array.finish().unwrap();
    let keys = sextant::index::Keys::Numbered("vectors.npy".into());
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("100000 rows of 384, each batch durable", |bencher| {
        bencher.iter_with_setup(
            || tempfile::tempdir().unwrap(),
            |folder| {
                let index = folder.path().join("i");
                let mut writer = Index::create(&index, space(), 384).unwrap();
                writer.import(&path, &keys, Modality::Image, |_| {}).unwrap();
                assert_eq!(Index::open(&index).unwrap().len() as usize, ROWS);
                folder
            },
        );
    });
    group.finish();
}

fn main() {
    if let Some(folder) = std::env::var_os(SEARCH_ONLY) {
        return search_only(Path::new(&folder));
    }
    let mut criterion = Criterion::default().configure_from_args();
    scans(&mut criterion);
    import(&mut criterion);
    criterion.final_summary();
}
