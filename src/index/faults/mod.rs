//! Nothing is lost: every operation of a writer fails in every way, and the power is cut at
//! every moment; what is found afterwards must be an acknowledged state, or the one that was
//! being committed.

mod layer;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use layer::{Fault, Layer, Leaves, power_cut};

use crate::embedding::{Embedding, Modality, SpaceId};
use crate::index::{Filter, IndexError, NewRow, Reader, ScanOptions, Tag, Tags, Writer};

const DIMENSION: usize = 8;

fn space() -> SpaceId {
    SpaceId::from_bytes([5; 32])
}

/// What an index holds: keys, and the numbers that their vectors stand for.
type Contents = BTreeMap<Vec<u8>, usize>;

/// A vector that stands for a number, so that a mix-up of rows shows.
fn embedding(number: usize) -> Embedding {
    let mut vector = vec![0.01; DIMENSION];
    vector[number % DIMENSION] = 1.0;
    vector[number / DIMENSION % DIMENSION] += 0.5;
    Embedding::new(space(), Modality::Image, vector).unwrap()
}

/// A step of the workload between two commits.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Appends keys `from..to`, with vectors of these numbers plus `shift`.
    Append {
        from: usize,
        to: usize,
        shift: usize,
    },
    Remove(usize),
    Compact,
    Sketch,
}

use Step::{Append, Compact, Remove, Sketch};

/// Each inner list ends with a commit.
const LONG: &[&[Step]] = &[
    &[Append { from: 0, to: 3, shift: 0 }],
    &[Append { from: 3, to: 5, shift: 0 }, Remove(1)],
    &[Append { from: 0, to: 2, shift: 7 }],
    &[Append { from: 5, to: 1040, shift: 0 }],
    &[Sketch],
    &[Remove(1000), Remove(0), Append { from: 0, to: 1, shift: 3 }],
    &[Compact],
    &[Append { from: 2000, to: 2002, shift: 0 }, Remove(2)],
];

const SHORT: &[&[Step]] = &[
    &[Append { from: 0, to: 3, shift: 0 }],
    &[Remove(1)],
    &[Compact],
    &[Append { from: 0, to: 2, shift: 7 }],
];

/// A folder in memory where there is one: thousands of small indexes are made here.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn key(number: usize) -> Vec<u8> {
    format!("k{number}").into_bytes()
}

fn take(step: Step, writer: &mut Writer) -> Result<(), IndexError> {
    match step {
        Append { from, to, shift } => {
            let keys: Vec<Vec<u8>> = (from..to).map(key).collect();
            let rows: Vec<Embedding> = (from..to).map(|n| embedding(n + shift)).collect();
            let tag = Tags::new([Tag::new("from", from.to_string())?])?;
            let new: Vec<NewRow> = keys
                .iter()
                .zip(&rows)
                .map(|(k, e)| NewRow { tags: &tag, ..NewRow::new(k, e) })
                .collect();
            writer.append(&new)?;
        }
        Remove(number) => {
            writer.remove(&key(number))?;
        }
        Compact => {
            writer.compact(false)?;
        }
        Sketch => {
            writer.build_sketch()?;
        }
    }
    Ok(())
}

/// What a run of the workload acknowledged.
#[derive(Debug, Default)]
struct Run {
    /// The states in the order of their commits, the one that was in the making last.
    states: Vec<Contents>,
    /// How many operations there were when each state but the last was acknowledged.
    acknowledged: Vec<usize>,
    created: Option<usize>,
}

fn run(steps: &[&[Step]], folder: &Path, layer: &Layer) -> (Run, Result<(), IndexError>) {
    let mut run = Run { states: vec![Contents::new()], ..Run::default() };
    let result = (|| {
        let storage = Arc::new(layer.clone());
        let mut writer = Writer::create_on(folder, space(), DIMENSION, storage)?;
        run.created = Some(layer.count());
        run.acknowledged.push(layer.count());
        for steps in steps {
            let mut contents = run.states.last().unwrap().clone();
            let taken: Result<(), IndexError> = steps
                .iter()
                .try_for_each(|&step| take(step, &mut writer))
                .and_then(|()| writer.commit());
            // Also when a step failed: what it would have made is what may be found.
            steps.iter().for_each(|&step| expect(step, &mut contents));
            run.states.push(contents);
            taken?;
            run.acknowledged.push(layer.count());
        }
        Ok(())
    })();
    (run, result)
}

/// What a step makes of the contents.
fn expect(step: Step, contents: &mut Contents) {
    match step {
        Append { from, to, shift } => contents.extend((from..to).map(|n| (key(n), n + shift))),
        Remove(number) => {
            contents.remove(&key(number));
        }
        Compact | Sketch => {}
    }
}

/// Reads everything an index holds; each row must be whole and each checksum right.
fn contents(folder: &Path) -> Result<Contents, IndexError> {
    let reader = Reader::open(folder)?;
    let report = reader.verify(|_| {}).unwrap();
    let slots = reader.damaged_slots().len();
    assert_eq!(report.damage.len(), slots, "{:?}", report.damage);
    let mut contents = Contents::new();
    for row in reader.matching(&Filter::default()).unwrap() {
        let entry = reader.entry(row).unwrap();
        let number: usize = std::str::from_utf8(&entry.key).unwrap()[1..].parse().unwrap();
        let found = reader.embedding(row).unwrap();
        let shift = [0, 7, 3]
            .into_iter()
            .find(|shift| found.similarity(&embedding(number + shift)).unwrap() > 0.999);
        let from: usize = entry.tags.get("from").unwrap().parse().unwrap();
        assert!(from <= number);
        contents.insert(entry.key, number + shift.expect("a vector that was appended"));
    }
    assert_eq!(contents.len(), reader.len() as usize);
    Ok(contents)
}

/// After an accident at operation `at`: an acknowledged state or the next one is found, and
/// another writer can go on from it.
fn check(run: &Run, at: usize, folder: &Path, what: &str) {
    let acknowledged = run.acknowledged.iter().filter(|&&count| count <= at).count();
    let found = match contents(folder) {
        Ok(found) => found,
        Err(IndexError::NotAnIndex { .. } | IndexError::Missing { .. })
            if run.created.is_none_or(|count| count > at) =>
        {
            // Making it was not acknowledged, and can be done again.
            Writer::create_on(folder, space(), DIMENSION, Arc::new(Layer::default())).unwrap();
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let legal =
        &run.states[acknowledged.saturating_sub(1)..=acknowledged.min(run.states.len() - 1)];
    assert!(legal.contains(&found), "{what}: {} rows", found.len());
    let writer = Writer::open_on(folder, Some(space()), Arc::new(Layer::default()));
    let mut writer = writer.unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut after = found;
    let more = Append { from: 3000, to: 3002, shift: 0 };
    take(more, &mut writer).unwrap();
    expect(more, &mut after);
    writer.commit().unwrap();
    assert!(contents(folder).unwrap() == after, "{what}: cannot go on");
}

const KINDS: [Leaves; 6] = [
    Leaves::Everything,
    Leaves::Nothing,
    Leaves::Last,
    Leaves::Part(1),
    Leaves::Part(2),
    Leaves::Part(3),
];

#[test]
fn a_power_cut_at_any_moment_leaves_an_acknowledged_state() {
    let folder = scratch();
    let layer = Layer::default();
    let (run, result) = run(LONG, folder.path(), &layer);
    result.unwrap();
    let operations = layer.operations();
    for at in 0..=operations.len() {
        for leaves in KINDS {
            let after = scratch();
            let leaves = match leaves {
                Leaves::Part(seed) => Leaves::Part(seed + 10 * at as u64),
                other => other,
            };
            power_cut(&operations[..at], leaves, after.path());
            check(&run, at, after.path(), &format!("power cut at {at} that leaves {leaves:?}"));
        }
    }
}

#[test]
fn a_power_cut_after_a_kill_leaves_an_acknowledged_state() {
    let whole = Layer::default();
    let folder = scratch();
    run(SHORT, folder.path(), &whole).1.unwrap();
    for killed in 0..whole.count() {
        let folder = scratch();
        let layer = Layer::default();
        layer.fail(killed, Fault::Kill);
        let (mut run, _) = run(SHORT, folder.path(), &layer);
        layer.heal();
        // The system lives on, so the next writer finds all that was written, synced or not.
        let Ok(found) = contents(folder.path()) else { continue };
        let storage = Arc::new(layer.clone());
        let mut writer = Writer::open_on(folder.path(), Some(space()), storage).unwrap();
        let opened = layer.count();
        let mut next = found.clone();
        let more = Append { from: 50, to: 52, shift: 0 };
        take(more, &mut writer).unwrap();
        expect(more, &mut next);
        writer.commit().unwrap();
        drop(writer);
        // From when it could be read by the next writer, the found state counts as given.
        run.states.truncate(run.acknowledged.len());
        if run.states.last() != Some(&found) {
            run.acknowledged.push(opened);
            run.states.push(found);
        }
        run.acknowledged.push(layer.count());
        run.states.push(next);
        let operations = layer.operations();
        for at in killed..=operations.len() {
            for leaves in [Leaves::Nothing, Leaves::Part(at as u64), Leaves::Part(7 + at as u64)] {
                let after = scratch();
                power_cut(&operations[..at], leaves, after.path());
                let what = format!("killed at {killed}, power cut at {at} that leaves {leaves:?}");
                check(&run, at, after.path(), &what);
            }
        }
    }
}

#[test]
fn a_failing_operation_is_reported_and_costs_nothing_acknowledged() {
    let whole = Layer::default();
    let folder = scratch();
    run(LONG, folder.path(), &whole).1.unwrap();
    let faults = [
        Fault::Error(io::ErrorKind::Other),
        Fault::Error(io::ErrorKind::StorageFull),
        Fault::Torn,
        Fault::Kill,
    ];
    let mut failed = 0;
    for at in 0..whole.count() {
        for fault in faults {
            let folder = scratch();
            let layer = Layer::default();
            layer.fail(at, fault);
            let (run, result) = run(LONG, folder.path(), &layer);
            let what = format!("operation {at} fails with {fault:?}");
            match &result {
                Ok(()) => {}
                Err(IndexError::DiskFull { .. }) => {
                    assert_eq!(fault, Fault::Error(io::ErrorKind::StorageFull), "{what}");
                }
                Err(error) => assert!(matches!(error, IndexError::Io { .. }), "{what}: {error}"),
            }
            failed += usize::from(result.is_err());
            let after = scratch();
            let now = layer.count();
            power_cut(&layer.operations(), Leaves::Part(at as u64), after.path());
            check(&run, now, after.path(), &format!("{what}, then a power cut"));
            check(&run, now, folder.path(), &what);
        }
    }
    // Only the removal of leftovers may fail in silence.
    assert!(failed + 40 > whole.count() * faults.len(), "{failed}");
}

#[test]
fn a_writer_that_failed_stays_closed() {
    let folder = scratch();
    let layer = Layer::default();
    let storage = Arc::new(layer.clone());
    let mut writer = Writer::create_on(folder.path(), space(), DIMENSION, storage).unwrap();
    layer.fail(layer.count() + 1, Fault::Error(io::ErrorKind::StorageFull));
    let row = embedding(1);
    let full = writer.append(&[NewRow::new(b"k1", &row)]);
    assert!(matches!(full, Err(IndexError::DiskFull { .. })));
    assert!(full.unwrap_err().to_string().contains("the disk is full"));
    let again = writer.append(&[NewRow::new(b"k1", &row)]);
    assert!(matches!(again, Err(IndexError::Poisoned { .. })));
    assert!(matches!(writer.commit(), Err(IndexError::Poisoned { .. })));
    assert!(matches!(writer.remove(b"k1"), Err(IndexError::Poisoned { .. })));
    drop(writer);
    let reader = Reader::open(folder.path()).unwrap();
    let none = reader.search(&[row], 3, &Filter::default(), &ScanOptions::default()).unwrap();
    assert_eq!(none, [vec![]]);
}
