//! The library's own allocator.

/// Gives the library's freed memory back to the system, which its allocator otherwise keeps for itself. The gateway's own
/// allocator is another.
pub fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: takes a number, touches only what is free, and may be called from any thread.
        unsafe { malloc_trim(0) };
    }
}
