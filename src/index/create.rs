//! Making an index, and clearing away what an interrupted writer left.

use std::fs;
use std::io;
use std::path::Path;

use crate::embedding::SpaceId;
use crate::index::IndexError;
use crate::index::files::{Files, OpenFile};
use crate::index::format::{HEAD, LOCK, Layout, NEW_HEAD, Part};
use crate::index::head::{Head, pair_offset};
use crate::index::lock::Lock;
use crate::index::storage::Storage;
use crate::index::writer::now;

/// The generation that an index begins with.
const FIRST_GENERATION: u64 = 1;

/// Makes an empty index in `folder` and locks it. The header appears last, by one rename: a
/// folder without it is not an index yet, and making one there can start again.
pub(crate) fn create(
    folder: &Path,
    space: SpaceId,
    layout: Layout,
    storage: &dyn Storage,
) -> Result<Lock, IndexError> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_empty(folder)?,
        Err(e) => return Err(IndexError::io("making the folder", folder, e)),
    }
    let lock = Lock::take(folder)?;
    check_empty(folder)?;
    let head = Head {
        sequence: 0,
        generation: FIRST_GENERATION,
        space,
        layout,
        rows: 0,
        live: 0,
        key_bytes: 0,
        log_bytes: 0,
        created: now(),
        committed: now(),
    };
    let temporary = folder.join(NEW_HEAD);
    let file = OpenFile::open(storage, temporary.clone(), true)?;
    let mut files = Files::open(storage, folder, FIRST_GENERATION, file, true)?;
    for file in [&mut files.rows, &mut files.keys, &mut files.log] {
        file.sync()?;
    }
    for sequence in [0, 1] {
        files.head.write(pair_offset(sequence), &Head { sequence, ..head }.pair())?;
    }
    files.head.sync()?;
    let sync = |folder: &Path| {
        storage.sync_folder(folder).map_err(|e| IndexError::io("syncing", folder, e))
    };
    // Once before the header gets its name, so that no header can outlive its data files.
    sync(folder)?;
    let path = folder.join(HEAD);
    storage.rename(&temporary, &path).map_err(|e| IndexError::io("renaming", &path, e))?;
    sync(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
        _ => sync(Path::new("."))?,
    }
    Ok(lock)
}

/// Fails if the folder holds anything but what an interrupted `create` leaves.
fn check_empty(folder: &Path) -> Result<(), IndexError> {
    if !folder.is_dir() {
        return Err(IndexError::NotAFolder { path: folder.into() });
    }
    let io = |e| IndexError::io("reading", folder, e);
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let name = name.to_string_lossy();
        if name == HEAD {
            return Err(IndexError::Exists { path: folder.into() });
        }
        let ours = [LOCK, NEW_HEAD].contains(&&*name)
            || Part::ALL.iter().any(|part| part.file_name(FIRST_GENERATION) == name);
        if !ours {
            return Err(IndexError::NotEmpty { path: folder.into() });
        }
    }
    Ok(())
}

/// Removes files of other generations and half-made ones. What cannot be removed is left for
/// the next writer: it is not part of the index.
pub(crate) fn remove_leftovers(folder: &Path, generation: u64, storage: &dyn Storage) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let other = Part::parse(&name).is_some_and(|(_, number)| number != generation);
        let half_made = name == NEW_HEAD
            || name.strip_suffix(".new").is_some_and(|stem| Part::parse(stem).is_some());
        if other || half_made {
            let _ = storage.remove(&entry.path());
        }
    }
}
