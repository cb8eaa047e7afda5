//! Read-only maps of files, and what happens when such a file shrinks under the map.
//!
//! Touching a mapped page that the file no longer has, or that the disk cannot read, raises
//! `SIGBUS`, which ends a process. Checking the length first leaves a gap between check and
//! touch, so on Unix a handler closes it: it puts zeroed memory in place of the lost pages,
//! marks the map, and lets the program go on. Whoever used the map asks [`Map::intact`]
//! before believing what was read. A `SIGBUS` from anywhere else goes to the handler that
//! was installed before. On Windows a mapped file cannot be truncated.
//!
//! This is the only file outside of `kernel` with `unsafe` code.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a file cannot be mapped, or could not be read through its map.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// The operating system refuses.
    #[error("{}: {action} it failed: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The file is shorter than what was to be mapped.
    #[error("{}: truncated: {found} bytes where {expected} were expected", path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    /// The table of the guard is full.
    #[error("{}: too many files are mapped in this process", path.display())]
    TooMany { path: PathBuf },
    /// A page of the file was lost while it was mapped.
    #[error("{}: could not be read to its end: something truncated it meanwhile, or the disk fails", path.display())]
    Lost { path: PathBuf },
}

/// A read-only map of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Map {
    path: PathBuf,
    // Declared before `map`: the watch must end before the memory is given back.
    watch: Option<guard::Watch>,
    map: Option<memmap2::Mmap>,
}

impl Map {
    /// Maps the first `length` bytes of `file`, which must have at least so many.
    pub fn new(file: &File, path: &Path, length: u64) -> Result<Self, MapError> {
        let io = |action| move |source| MapError::Io { action, path: path.into(), source };
        let found = file.metadata().map_err(io("reading"))?.len();
        let size = match usize::try_from(length) {
            Ok(size) if found >= length => size,
            _ => {
                return Err(MapError::Truncated { path: path.into(), expected: length, found });
            }
        };
        if size == 0 {
            return Ok(Self { path: path.into(), watch: None, map: None });
        }
        // SAFETY: The map is read-only and its length was checked against the file's. Nobody
        // changes the mapped bytes while the map lives: the writer of an index only ever
        // appends behind the rows that a committed header counts, and readers map no more than
        // those; files of a model package are replaced whole. A foreign process that truncates the file is caught by the guard below; one
        // that overwrites it changes plain bytes that are validated where they matter and for
        // which every bit pattern is a valid value.
        let map =
            unsafe { memmap2::MmapOptions::new().len(size).map(file) }.map_err(io("mapping"))?;
        let watch = guard::Watch::new(map.as_ptr() as usize, size)
            .ok_or_else(|| MapError::TooMany { path: path.into() })?;
        Ok(Self { path: path.into(), watch: Some(watch), map: Some(map) })
    }

    /// All mapped bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The same bytes as signed numbers.
    pub fn signed(&self) -> &[i8] {
        let bytes = self.bytes();
        // SAFETY: `i8` and `u8` have the same size and alignment, every bit pattern is a valid
        // `i8`, and the new slice borrows `self` exactly as the old one does.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<i8>(), bytes.len()) }
    }

    /// Lets go of the memory behind whole pages of `range`; who reads there again gets them
    /// from the file again.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            /// A multiple of every page size in use.
            const PAGES: usize = 1 << 16;
            let start = range.start.next_multiple_of(PAGES);
            let end = range.end.min(map.len()) / PAGES * PAGES;
            if start < end {
                // SAFETY: `start..end` lies in the map, which is read-only and not private: its
                // pages have no contents but the file's (or the guard's zeros), so that they
                // read the same after they were dropped.
                let advised = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        start,
                        end - start,
                    )
                };
                drop(advised); // Only memory would be held for longer.
            }
        }
        #[cfg(not(unix))]
        drop(range);
    }

    /// The file behind the map.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if any page of the map was lost since it was made.
    pub fn intact(&self) -> Result<(), MapError> {
        match &self.watch {
            Some(watch) if watch.lost() => Err(MapError::Lost { path: self.path.clone() }),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
mod guard {
    //! The `SIGBUS` handler and the table of address ranges it looks after.

    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// How many maps can be watched at once: a fixed table, as a handler may not allocate.
    const WATCHES: usize = 1024;
    /// `start` of a slot that is being filled.
    const RESERVED: usize = 1;

    #[derive(Debug)]
    struct Slot {
        start: AtomicUsize,
        end: AtomicUsize,
        lost: AtomicBool,
    }

    static SLOTS: [Slot; WATCHES] = [const {
        Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), lost: AtomicBool::new(false) }
    }; WATCHES];

    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

    /// A watched address range; dropping it ends the watch.
    #[derive(Debug)]
    pub(super) struct Watch(&'static Slot);

    impl Watch {
        /// Watches `length` bytes from `start`. `None` when the table is full.
        pub fn new(start: usize, length: usize) -> Option<Self> {
            install();
            let free = |slot: &&Slot| {
                slot.start
                    .compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            };
            let slot = SLOTS.iter().find(free)?;
            slot.lost.store(false, Ordering::Relaxed);
            slot.end.store(start + length, Ordering::Relaxed);
            slot.start.store(start, Ordering::Release);
            Some(Self(slot))
        }

        /// Whether a page of the range was replaced by zeros.
        pub fn lost(&self) -> bool {
            self.0.lost.load(Ordering::Acquire)
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            self.0.start.store(0, Ordering::Release);
        }
    }

    /// Installs the handler once in the life of the process.
    fn install() {
        PREVIOUS.get_or_init(|| {
            let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: `sigaction` is plain data for which all zeros is a valid value, and both
            // calls get pointers to live values of that type. The handler touches only atomics,
            // `PREVIOUS` and system calls that are async-signal-safe. A fault between the two
            // calls goes to the old handler, as before.
            unsafe {
                libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr());
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = on_bus_error as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
                previous.assume_init()
            }
        });
    }

    extern "C" fn on_bus_error(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: The kernel passes a valid `siginfo_t` to a handler with `SA_SIGINFO`.
        let address = unsafe { (*info).si_addr() } as usize;
        let hit = SLOTS.iter().find(|slot| {
            let start = slot.start.load(Ordering::Acquire);
            start > RESERVED && (start..slot.end.load(Ordering::Relaxed)).contains(&address)
        });
        if hit.is_some_and(|slot| replace_by_zeros(slot, address)) {
            return;
        }
        pass_on(signal, info, context);
    }

    /// Puts zeroed memory from the page of `address` to the end of the slot's map.
    fn replace_by_zeros(slot: &Slot, address: usize) -> bool {
        // SAFETY: `sysconf` reads a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = address & !(page - 1);
        let length = slot.end.load(Ordering::Relaxed) - start;
        // SAFETY: The range lies within a map that is alive, because the faulting thread is
        // using it through a `Map`; it is replaced by memory of the same protection, so that
        // every reference into it stays valid, and `munmap` later gives back both alike.
        let zeros = unsafe {
            libc::mmap(
                start as *mut libc::c_void,
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        slot.lost.store(true, Ordering::Release);
        zeros != libc::MAP_FAILED
    }

    /// Does what would have happened without this handler.
    fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let previous = PREVIOUS.get();
        let handler = previous.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
        // SAFETY: `handler` is what the system reported as the installed action: either one of
        // the two constants, or a function of the kind that `SA_SIGINFO` in its flags tells.
        // Restoring the default and returning repeats the fault, which then ends the process.
        unsafe {
            match previous {
                Some(action) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
                    if action.sa_flags & libc::SA_SIGINFO != 0 {
                        let call: extern "C" fn(
                            libc::c_int,
                            *mut libc::siginfo_t,
                            *mut libc::c_void,
                        ) = std::mem::transmute(handler);
                        call(signal, info, context);
                    } else {
                        let call: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                        call(signal);
                    }
                }
                _ => {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod guard {
    /// Nothing to watch: a mapped file cannot be truncated here.
    #[derive(Debug)]
    pub(super) struct Watch;

    impl Watch {
        pub fn new(_start: usize, _length: usize) -> Option<Self> {
            Some(Self)
        }

        pub fn lost(&self) -> bool {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_of(length: usize) -> (tempfile::TempDir, PathBuf, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mapped");
        File::create(&path).unwrap().write_all(&vec![7; length]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        (folder, path, file)
    }

    #[cfg(unix)]
    #[test]
    fn a_file_truncated_under_the_map_is_an_error_and_not_the_end() {
        let (_folder, path, file) = file_of(1 << 20);
        let map = Map::new(&file, &path, 1 << 20).unwrap();
        let other = Map::new(&file, &path, 4096).unwrap();
        assert_eq!(map.bytes()[5000], 7);
        file.set_len(8192).unwrap();
        assert_eq!(map.bytes().iter().map(|&b| u64::from(b)).sum::<u64>(), 7 * 8192);
        assert!(matches!(map.intact(), Err(MapError::Lost { .. })));
        assert!(other.intact().is_ok());
        drop(map);
        // The slot is free again and starts clean.
        assert!(Map::new(&file, &path, 8192).unwrap().intact().is_ok());
    }

    #[test]
    fn released_pages_read_the_same_again() {
        let (_folder, path, file) = file_of(200_000);
        let map = Map::new(&file, &path, 200_000).unwrap();
        for range in [0..200_000, 5..70_000, 65_536..131_072, 199_999..500_000, 9..9] {
            map.release(range);
            assert!(map.bytes().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_short_file_is_refused_and_an_empty_map_is_empty() {
        let (_folder, path, file) = file_of(100);
        assert!(matches!(
            Map::new(&file, &path, 101),
            Err(MapError::Truncated { expected: 101, found: 100, .. })
        ));
        assert!(Map::new(&file, &path, 0).unwrap().bytes().is_empty());
        assert_eq!(Map::new(&file, &path, 100).unwrap().signed()[99], 7);
    }
}
