//! What is asked of the C library's allocator, where it is glibc's.

/// Lets all threads of the process take memory from one heap. glibc gives each thread a heap of its own,
/// and keeps in each what was freed there. For programs, at their start.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call may be made at any time, and says only how many heaps there may be from then on.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives what the allocator holds of freed memory back to the operating system, before much more is
/// asked for. glibc keeps what was freed between live memory, such as what tract's passes left behind.
pub(super) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes any number, may be made from any thread at any time, and touches only
    // memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}
