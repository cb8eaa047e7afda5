//! A file layer that can fail at any operation, and that knows what a power cut may leave.
//!
//! Every operation is carried out on real files, without syncing them, and written down. From
//! the record the state of the disk after a power cut at any moment can be made: what was
//! synced is there; of the rest any part may be, in any order, and a write may be torn at any
//! byte. Names in the folder are as volatile until the folder is synced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::index::storage::{Disk, Storage, StorageFile};

/// One recorded operation. Files are known by number, as names change.
#[derive(Debug, Clone)]
pub enum Operation {
    Create { name: String, file: usize },
    Truncate { file: usize },
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    SetLen { file: usize, length: u64 },
    Sync { file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncFolder,
}

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens and an error comes back.
    Error(io::ErrorKind),
    /// Half of a write happens and an error comes back.
    Torn,
    /// The process ends: this operation and all that follow do nothing.
    Kill,
}

#[derive(Debug, Default)]
struct State {
    operations: Vec<Operation>,
    names: BTreeMap<String, usize>,
    files: usize,
    fault: Option<(usize, Fault)>,
}

impl State {
    /// Whether the next operation fails, and how.
    fn strike(&self) -> Option<Fault> {
        let (at, fault) = self.fault?;
        let now = self.operations.len();
        (now == at || fault == Fault::Kill && now > at).then_some(fault)
    }

    /// Records an operation, unless it is to fail.
    fn enter(&mut self, operation: Operation) -> io::Result<()> {
        match self.strike() {
            None => {
                self.operations.push(operation);
                Ok(())
            }
            Some(Fault::Kill) => Err(io::Error::other("the process was killed")),
            Some(fault) => {
                self.fault = None;
                if let (Fault::Torn, Operation::Write { file, offset, mut bytes }) =
                    (fault, operation)
                {
                    bytes.truncate(bytes.len() / 2);
                    self.operations.push(Operation::Write { file, offset, bytes });
                }
                let kind = match fault {
                    Fault::Error(kind) => kind,
                    _ => io::ErrorKind::Other,
                };
                Err(io::Error::new(kind, "made to fail"))
            }
        }
    }
}

/// The layer; clones share their record.
#[derive(Debug, Clone, Default)]
pub struct Layer(Arc<Mutex<State>>);

impl Layer {
    /// Lets operation number `at` fail, counted from 0 over the whole life of the layer.
    pub fn fail(&self, at: usize, fault: Fault) {
        self.0.lock().unwrap().fault = Some((at, fault));
    }

    /// Lets everything succeed again.
    pub fn heal(&self) {
        self.0.lock().unwrap().fault = None;
    }

    /// How many operations were recorded.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().operations.len()
    }

    /// What was recorded.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.lock().unwrap().operations.clone()
    }
}

struct FaultyFile {
    layer: Layer,
    number: usize,
    file: File,
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Storage for Layer {
    fn open(&self, path: &Path, fresh: bool) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.0.lock().unwrap();
        let name = name_of(path);
        let number = match state.names.get(&name).copied() {
            Some(file) if fresh => {
                state.enter(Operation::Truncate { file })?;
                file
            }
            Some(file) => file,
            None => {
                let file = state.files;
                state.enter(Operation::Create { name: name.clone(), file })?;
                state.files += 1;
                state.names.insert(name, file);
                file
            }
        };
        let file =
            File::options().read(true).write(true).create(true).truncate(fresh).open(path)?;
        Ok(Box::new(FaultyFile { layer: self.clone(), number, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let (old, new) = (name_of(from), name_of(to));
        state.enter(Operation::Rename { from: old.clone(), to: new.clone() })?;
        let file = state.names.remove(&old).unwrap();
        state.names.insert(new, file);
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.enter(Operation::Remove { name: name_of(path) })?;
        state.names.remove(&name_of(path));
        Disk.remove(path)
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().enter(Operation::SyncFolder)
    }
}

impl StorageFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.layer.0.lock().unwrap();
        let before = state.operations.len();
        let entered =
            state.enter(Operation::Write { file: self.number, offset, bytes: bytes.to_vec() });
        let done = match &state.operations[before..] {
            [Operation::Write { bytes, .. }] => bytes.len(),
            _ => 0,
        };
        StorageFile::write_at(&mut self.file, offset, &bytes[..done])?;
        entered
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let operation = Operation::SetLen { file: self.number, length };
        self.layer.0.lock().unwrap().enter(operation)?;
        StorageFile::set_len(&mut self.file, length)
    }

    fn len(&self) -> io::Result<u64> {
        StorageFile::len(&self.file)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.layer.0.lock().unwrap().enter(Operation::Sync { file: self.number })
    }
}

/// What of the volatile operations a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// All of it: only the process ended.
    Everything,
    /// Only what was synced.
    Nothing,
    /// Only the last volatile operation of each file.
    Last,
    /// A part that this seed decides, with torn writes.
    Part(u64),
}

/// Makes in `folder` what a power cut after `operations` leaves.
pub fn power_cut(operations: &[Operation], leaves: Leaves, folder: &Path) {
    let survives = survivors(operations, leaves);
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut contents: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for (operation, kept) in operations.iter().zip(survives) {
        if kept == 0.0 {
            continue;
        }
        match operation {
            Operation::Create { name, file } => {
                names.insert(name.clone(), *file);
            }
            Operation::Truncate { file } => contents.entry(*file).or_default().clear(),
            Operation::Write { file, offset, bytes } => {
                let bytes = &bytes[..(bytes.len() as f64 * kept) as usize];
                let content = contents.entry(*file).or_default();
                let end = *offset as usize + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset as usize..end].copy_from_slice(bytes);
            }
            Operation::SetLen { file, length } => {
                contents.entry(*file).or_default().resize(*length as usize, 0);
            }
            Operation::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Operation::Remove { name } => {
                names.remove(name);
            }
            Operation::Sync { .. } | Operation::SyncFolder => {}
        }
    }
    for (name, file) in names {
        fs::write(folder.join(name), contents.get(&file).map_or(&[][..], |c| c)).unwrap();
    }
}

/// How much of each operation survives: 1 all of it, 0 nothing, else a torn write.
fn survivors(operations: &[Operation], leaves: Leaves) -> Vec<f64> {
    let mut random = match leaves {
        Leaves::Part(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        _ => 1,
    };
    let mut draw = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let subject = |operation: &Operation| match operation {
        Operation::Truncate { file }
        | Operation::Write { file, .. }
        | Operation::SetLen { file, .. }
        | Operation::Sync { file } => Some(*file),
        _ => None,
    };
    let mut survives = vec![1.0; operations.len()];
    for (at, operation) in operations.iter().enumerate() {
        let later = &operations[at + 1..];
        let of_this = |other: &&Operation| subject(other) == subject(operation);
        let synced = later.iter().filter(of_this).any(|other| match subject(operation) {
            Some(_) => matches!(other, Operation::Sync { .. }),
            None => matches!(other, Operation::SyncFolder),
        });
        if synced || matches!(operation, Operation::Sync { .. } | Operation::SyncFolder) {
            continue;
        }
        survives[at] = match leaves {
            Leaves::Everything => 1.0,
            Leaves::Nothing => 0.0,
            Leaves::Last => f64::from(u8::from(!later.iter().any(|o| of_this(&o)))),
            Leaves::Part(_) => match draw() % 3 {
                0 => 0.0,
                1 => 1.0,
                _ if matches!(operation, Operation::Write { .. }) => {
                    (draw() % 1000) as f64 / 1000.0
                }
                _ => 1.0,
            },
        };
    }
    survives
}
