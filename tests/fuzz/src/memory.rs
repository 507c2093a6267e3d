//! What a case allocates: the largest piece and the most at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, which counts.
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// What was allocated since [`begin`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocated {
    /// Bytes of the largest single piece.
    pub largest: usize,
    /// Most bytes at a time, beyond what was held at the beginning.
    pub most: usize,
}

/// Begins to count anew; gives what is held, for [`end`].
pub fn begin() -> usize {
    let held = HELD.load(Relaxed);
    MOST.store(held, Relaxed);
    LARGEST.store(0, Relaxed);
    held
}

pub fn end(held: usize) -> Allocated {
    Allocated { largest: LARGEST.load(Relaxed), most: MOST.load(Relaxed).saturating_sub(held) }
}

fn took(bytes: usize) {
    LARGEST.fetch_max(bytes, Relaxed);
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(held, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Relaxed);
        took(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}
