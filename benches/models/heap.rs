//! The peak of the process's heap. CPU backends keep their tensors there, so it is what a training step needs, to the byte,
//! where the resident set would also count what the allocator keeps for later.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The allocator of the examples, with a count of the bytes in use.
#[derive(Debug)]
pub struct Counting;

fn grown(bytes: usize) {
    PEAK.fetch_max(IN_USE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call is passed on to that allocator as it came; the counters are atomics and never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is that allocator's.
        let memory = unsafe { MiMalloc.alloc(layout) };
        if !memory.is_null() {
            grown(layout.size());
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that allocator's.
        let memory = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !memory.is_null() {
            grown(layout.size());
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from the methods here, that is from that allocator, with this layout.
        unsafe { MiMalloc.dealloc(memory, layout) };
        IN_USE.fetch_sub(layout.size(), Relaxed);
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `memory` came from the methods here, that is from that allocator, with this layout.
        let moved = unsafe { MiMalloc.realloc(memory, layout, size) };
        if !moved.is_null() {
            grown(size);
            IN_USE.fetch_sub(layout.size(), Relaxed);
        }
        moved
    }
}

/// The most bytes in use at once while `work` ran, above those in use before.
pub fn peak_of(work: impl FnOnce()) -> usize {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed).saturating_sub(before)
}
