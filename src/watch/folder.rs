//! A folder that fills up with pictures.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};

use super::WatchError;
use super::counters::Count;
use super::source::{FOLDER_STEP, Moment, Payload, Sink};

/// Largest picture file of a folder.
const MAX_FILE: u64 = 256 << 20;

/// Reads the pictures there are, by name, then each new one when it is completely written:
/// closed by its writer, or moved here.
pub(super) fn read(folder: &Path, new_only: bool, sink: &mut Sink) -> Result<(), WatchError> {
    let name = sink.name.clone();
    let refuse = |reason| WatchError::Source { source_name: name.clone(), reason };
    let mut inotify = Inotify::init().map_err(refuse)?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(folder, mask).map_err(refuse)?;
    let mut count = 0u64;
    if !new_only {
        let mut present: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(refuse)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        present.sort();
        for path in present {
            if !put(&path, &mut count, sink) {
                return Ok(());
            }
        }
    }
    let mut buffer = vec![0; 16 << 10];
    loop {
        let events = inotify.read_events_blocking(&mut buffer).map_err(refuse)?;
        for event in events {
            use inotify::EventMask;
            if event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF) {
                return Err(refuse(std::io::Error::other("the folder was moved or deleted")));
            }
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                let message = "pictures came faster than they could be seen: some were missed";
                sink.counters.notice(format!("{name}: {message}"));
            }
            let Some(file) = event.name.filter(|_| !event.mask.contains(EventMask::ISDIR)) else {
                continue;
            };
            if !put(&folder.join(file), &mut count, sink) {
                return Ok(());
            }
        }
    }
}

/// Hands over one file; hidden ones, which programs write before they rename them, are left out.
fn put(path: &Path, count: &mut u64, sink: &mut Sink) -> bool {
    if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
        return !sink.stopped();
    }
    let mut bytes = sink.buffer();
    bytes.clear();
    let read = fs::File::open(path).and_then(|file| {
        let changed = file.metadata()?.modified()?;
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(changed)
    });
    match read {
        Ok(changed) => {
            let time = *count as f64 * FOLDER_STEP;
            *count += 1;
            sink.put_at(Payload::File(bytes), time, Moment::Clock(changed))
        }
        // It may be gone again; that is not our affair.
        Err(error) => {
            sink.counters.add(Count::Damaged, 1);
            sink.counters.notice(format!("{}: cannot be read: {error}", path.display()));
            !sink.stopped()
        }
    }
}
