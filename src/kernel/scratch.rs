//! Working memory that is allocated once and used again.

use bytes::BytesMut;

/// Length of a cache line, the unit of aligned memory.
const LINE: usize = 64;

#[cfg(sextant_address_sanitizer)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const u8, length: usize);
    fn __asan_unpoison_memory_region(start: *const u8, length: usize);
}

/// Bytes that start on a cache line.
#[derive(Debug, Default)]
pub struct AlignedBytes {
    /// Starts on a line. Large ones come zeroed from the operating system: nobody writes the zeros.
    memory: BytesMut,
    length: usize,
}

impl AlignedBytes {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        let mut memory = BytesMut::zeroed(length.checked_add(LINE).expect("size overflows"));
        let before = memory.as_ptr().addr().wrapping_neg() % LINE;
        drop(memory.split_to(before));
        let new = Self { memory, length };
        new.fence();
        new
    }

    /// Tells AddressSanitizer, where it watches (`tests/scripts/sanitise`), that what lies behind the
    /// array is nobody's. Without this it would take the spare bytes up to a whole line for the
    /// array's. Memory that is freed loses its fences.
    fn fence(&self) {
        #[cfg(sextant_address_sanitizer)]
        // SAFETY: both ranges lie in memory that this array owns. Marking them changes no byte.
        unsafe {
            let start = self.memory.as_ptr();
            __asan_unpoison_memory_region(start, self.length);
            __asan_poison_memory_region(start.add(self.length), self.memory.len() - self.length);
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }

    /// Makes room for `length` bytes: those there were stay, and what others hold is unspecified,
    /// but initialised.
    pub fn reserve(&mut self, length: usize) -> &mut [u8] {
        if self.memory.len() < length {
            let larger = Self::zeroed(length);
            let smaller = std::mem::replace(self, larger);
            self.memory[..smaller.length].copy_from_slice(smaller.as_slice());
        }
        self.length = length;
        self.fence();
        self.as_mut_slice()
    }

    /// Makes room for `length` numbers; what they hold is unspecified, but initialised.
    pub fn reserve_f32(&mut self, length: usize) -> &mut [f32] {
        let bytes = self.reserve(length.checked_mul(4).expect("scratch size overflows"));
        // SAFETY: cache lines are aligned for f32, any bit pattern is an f32, and `reserve`
        // returned exactly 4 * length bytes.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) }
    }
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        // Bytes that are copied to other memory start elsewhere in it.
        let mut copy = Self::zeroed(self.length);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

/// Memory for several arrays, in one piece, so that the operating system can back it with huge pages:
/// filling and reading it then costs few page faults. Freed with the last of the arrays.
#[derive(Debug)]
pub struct Arena {
    rest: BytesMut,
}

impl Arena {
    /// Smaller ones are left in ordinary pages: the last huge page is mostly waste.
    const SMALLEST_HUGE: usize = 16 << 20;

    /// Memory for arrays that are together at most `length` long, each counted with
    /// [`Arena::room_for`].
    pub fn new(length: usize) -> Self {
        if length >= Self::SMALLEST_HUGE {
            return_freed_memory();
        }
        let mut whole = AlignedBytes::zeroed(length);
        whole.length = whole.memory.len();
        whole.fence();
        let AlignedBytes { mut memory, .. } = whole;
        if length >= Self::SMALLEST_HUGE {
            prefer_huge_pages(&mut memory);
        }
        Self { rest: memory }
    }

    /// What an array takes of an arena.
    pub fn room_for(length: usize) -> usize {
        length.next_multiple_of(LINE)
    }

    /// Zero bytes: of the arena, or of their own where it has no more.
    pub fn take(&mut self, length: usize) -> AlignedBytes {
        let room = Self::room_for(length);
        match room <= self.rest.len() {
            true => {
                let new = AlignedBytes { memory: self.rest.split_to(room), length };
                new.fence();
                new
            }
            false => AlignedBytes::zeroed(length),
        }
    }
}

/// Gives what the allocator holds of freed memory back to the operating system, before much more is
/// asked for. glibc keeps what was freed between live memory, such as what tract's passes left behind.
fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes any number, may be made from any thread at any time, and touches only
    // memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Asks for huge pages, where the operating system has them.
fn prefer_huge_pages(memory: &mut [u8]) {
    #[cfg(target_os = "linux")]
    {
        /// A multiple of every page size in use.
        const PAGES: usize = 1 << 16;
        let before = memory.as_ptr().addr().wrapping_neg() % PAGES;
        if let Some(whole) = memory.get_mut(before..) {
            // SAFETY: the range starts on a page and lies in memory that is borrowed exclusively;
            // the advice changes neither its contents nor how it may be used.
            unsafe {
                libc::madvise(whole.as_mut_ptr().cast(), whole.len(), libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Signed bytes as they lie in memory.
pub(super) fn as_bytes(values: &[i8]) -> &[u8] {
    // SAFETY: `i8` and `u8` have the same size and alignment, every bit pattern is a valid `u8`,
    // and the new slice borrows as the old one does.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// Working memory of one thread, handed to every kernel that needs some.
///
/// It grows to the largest size asked for and keeps it, so that a network which ran once does
/// not allocate again.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub(crate) rows: super::QuantisedRows,
    pub(crate) bytes: AlignedBytes,
    pub(crate) padded: AlignedBytes,
    pub(crate) numbers: AlignedBytes,
}

impl Scratch {
    /// Empty working memory.
    pub fn new() -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(bytes: &AlignedBytes) -> bool {
        bytes.as_slice().as_ptr().addr().is_multiple_of(LINE)
    }

    #[test]
    fn bytes_start_on_a_line_however_they_were_made() {
        let mut bytes = AlignedBytes::zeroed(100);
        assert!(aligned(&bytes) && bytes.as_slice() == [0; 100]);
        bytes.as_mut_slice().fill(7);
        let copy = bytes.clone();
        assert!(aligned(&copy) && copy.as_slice() == [7; 100]);
        for length in [0, 1, 63, 64, 65, 10_000, 3] {
            let kept = bytes.as_slice().to_vec();
            assert_eq!(bytes.reserve(length).len(), length);
            assert!(kept.iter().zip(bytes.as_slice()).all(|(before, after)| before == after));
            bytes.as_mut_slice().fill(length as u8 | 1);
            assert!(aligned(&bytes));
            assert_eq!(bytes.reserve_f32(length).len(), length);
        }
        assert!(AlignedBytes::default().as_slice().is_empty());
    }

    #[test]
    fn arrays_of_an_arena_are_apart_and_outlive_it() {
        let lengths = [1, 64, 65, 1000, 20 << 20];
        let mut arena = Arena::new(lengths.iter().map(|l| Arena::room_for(*l)).sum());
        let mut arrays: Vec<AlignedBytes> = lengths.iter().map(|l| arena.take(*l)).collect();
        // More than was asked for.
        arrays.push(arena.take(500));
        drop(arena);
        for (i, array) in arrays.iter_mut().enumerate() {
            assert!(aligned(array) && array.as_slice().iter().all(|byte| *byte == 0));
            array.as_mut_slice().fill(i as u8 + 1);
        }
        for (i, array) in arrays.iter().enumerate() {
            assert!(array.as_slice().iter().all(|byte| *byte == i as u8 + 1));
        }
        assert_eq!(arrays[5].as_slice().len(), 500);
    }

    #[cfg(sextant_address_sanitizer)]
    #[test]
    fn the_byte_behind_an_array_is_out_of_bounds() {
        unsafe extern "C" {
            fn __asan_address_is_poisoned(at: *const u8) -> i32;
        }
        let check = |bytes: &AlignedBytes| {
            let inside = bytes.as_slice().as_ptr_range();
            // SAFETY: the addresses are looked up and not read.
            let marked = |at: *const u8| unsafe { __asan_address_is_poisoned(at) } != 0;
            assert!(!marked(inside.start) && !marked(inside.end.wrapping_sub(1)));
            assert!(marked(inside.end));
        };
        let mut arena = Arena::new(256);
        let [first, second] = [arena.take(65), arena.take(30)];
        let mut bytes = AlignedBytes::zeroed(100);
        [&first, &second, &bytes, &bytes.clone()].into_iter().for_each(check);
        for length in [90, 101, 3, 1000] {
            bytes.reserve(length);
            check(&bytes);
        }
    }
}
