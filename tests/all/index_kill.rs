//! `kill -9` at any moment, with readers watching: what was acknowledged is there.
//!
//! The writer is this test binary again, started with a variable that tells it where to write.
//! `SEXTANT_KILLS=200` makes the test long.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sextant::index::{Filter, Index, IndexError, NewRow, Reader, Writer};
use sextant::{Embedding, Modality};

use crate::command;
use crate::index::{Noise, space};

const FOLDER: &str = "SEXTANT_TEST_KILL_FOLDER";
const DIMENSION: usize = 48;

/// The vector that belongs to a number: any row can be checked by its key.
fn vector_of(number: u64) -> Embedding {
    let vector = Noise::new(number + 1).vector(DIMENSION);
    Embedding::new(space(1), Modality::Image, vector).unwrap()
}

fn key_of(number: u64) -> Vec<u8> {
    format!("number {number}").into_bytes()
}

/// The number after the highest one in the index.
fn next_number(reader: &Reader) -> u64 {
    let rows = reader.matching(&Filter::default()).unwrap();
    rows.last().map_or(0, |&row| number_of(&reader.entry(row).unwrap().key) + 1)
}

fn number_of(key: &[u8]) -> u64 {
    std::str::from_utf8(key).unwrap().strip_prefix("number ").unwrap().parse().unwrap()
}

/// What the child does until it is killed: appends runs of numbers, removes every seventh,
/// compacts at times, and says on its output what was acknowledged.
fn write_until_killed(folder: &Path) -> Result<(), IndexError> {
    let mut writer = match Writer::open(folder, space(1)) {
        Err(IndexError::Missing { .. } | IndexError::NotAnIndex { .. }) => {
            Index::create(folder, space(1), DIMENSION)?
        }
        other => other?,
    };
    let mut noise = Noise::new(u64::from(std::process::id()));
    let mut number = next_number(&Index::open(folder)?);
    loop {
        let count = 1 + noise.below(200) as u64;
        let vectors: Vec<Embedding> = (number..number + count).map(vector_of).collect();
        let keys: Vec<Vec<u8>> = (number..number + count).map(key_of).collect();
        let rows: Vec<NewRow> = keys.iter().zip(&vectors).map(|(k, e)| NewRow::new(k, e)).collect();
        writer.append(&rows)?;
        for removed in (number..number + count).filter(|n| n % 7 == 3) {
            writer.remove(&key_of(removed))?;
        }
        writer.commit()?;
        number += count;
        println!("acknowledged {number}");
        std::io::stdout().flush().unwrap();
        if noise.below(10) == 0 {
            writer.compact(false)?;
        }
    }
}

/// Not a test by itself: the child of the one below.
#[test]
fn kill_child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let error = write_until_killed(Path::new(&folder)).unwrap_err();
        panic!("{error}");
    }
}

/// Every number below the highest is there unless it is a removed one, and each row is whole.
fn check(reader: &Reader) -> u64 {
    let report = reader.verify(|_| {}).unwrap();
    assert!(report.damage.iter().all(|damage| damage.path.ends_with("head")), "{report:?}");
    let rows = reader.matching(&Filter::default()).unwrap();
    let next = next_number(reader);
    let numbers: Vec<u64> =
        rows.iter().map(|&row| number_of(&reader.entry(row).unwrap().key)).collect();
    let last = numbers.last().copied().unwrap_or(0);
    assert!(numbers.iter().copied().eq((0..=last).filter(|n| n % 7 != 3 && next > 0)));
    for (row, number) in rows.iter().zip(&numbers).step_by(37) {
        let found = reader.embedding(*row).unwrap();
        assert!(found.similarity(&vector_of(*number)).unwrap() > 0.999);
    }
    next
}

/// A writer in a process of its own, and what it has acknowledged.
struct Child {
    process: std::process::Child,
    acknowledged: Arc<AtomicU64>,
    watch: JoinHandle<()>,
}

impl Child {
    fn start(folder: &Path) -> Self {
        let mut process = command::start(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "index_kill::kill_child"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let last = acknowledged.clone();
        let watch = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("acknowledged ") {
                    last.store(number.parse().unwrap(), Ordering::Release);
                }
            }
        });
        Self { process, acknowledged, watch }
    }

    /// Kills the writer and says what it acknowledged.
    fn kill(mut self) -> u64 {
        assert!(self.process.try_wait().unwrap().is_none(), "the writer ended by itself");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.watch.join().unwrap();
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// A reader never sees half of anything, whatever the writer is doing.
fn look(folder: &Path) {
    match Index::open(folder) {
        Ok(reader) => {
            check(&reader);
        }
        Err(IndexError::Missing { .. } | IndexError::NotAnIndex { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = std::env::var("SEXTANT_KILLS").map_or(8, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i");
    let mut noise = Noise::new(kills);
    let mut commits = 0;
    for round in 0..kills {
        let child = Child::start(&path);
        // Every fourth time while it starts; else some time after its first commit.
        let limit = Instant::now() + Duration::from_secs(60);
        while round % 4 != 0 && child.acknowledged.load(Ordering::Acquire) == 0 {
            assert!(Instant::now() < limit, "no commit in a minute");
            look(&path);
        }
        let end = Instant::now() + Duration::from_micros(noise.below(80_000) as u64);
        while Instant::now() < end {
            look(&path);
        }
        let acknowledged = child.kill();
        match Index::open(&path) {
            Ok(reader) => {
                // Numbers that are removed at once may be the highest that were written.
                let next = check(&reader);
                assert!(next + 1 >= acknowledged, "{next} of {acknowledged}");
                commits = reader.info().commits;
            }
            Err(_) => assert_eq!(acknowledged, 0),
        }
    }
    println!("{kills} kills, {commits} commits");
    assert!(commits >= kills / 2);
    Writer::open(&path, space(1)).unwrap();
}
