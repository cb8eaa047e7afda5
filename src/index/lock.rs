//! One writer at a time: a lock file that knows who holds it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::index::IndexError;
use crate::index::format::LOCK;

/// The lock; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the index in `folder`, or says who has it.
    pub fn take(folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(LOCK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| IndexError::io("locking", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(IndexError::Locked { path: folder.into(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(e)) => return Err(IndexError::io("locking", &path, e)),
        }
        // Only for the message above: the lock holds without it, so a full disk does no harm.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// Lets go by name. Closing the file is not enough: a child process that is just being started has a copy of it
    /// until its own program runs, and would keep the lock for that moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Reads the process number that the holder wrote.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(number)) if number == std::process::id() => "this process".into(),
        (Ok(_), Ok(number)) => format!("process {number}"),
        _ => "another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::take(folder.path()), Err(IndexError::Locked { .. })));
        drop(lock);
        Lock::take(folder.path()).unwrap();
        drop(copy);
    }
}
