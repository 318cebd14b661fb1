//! Prefetches of cache lines. On architectures other than x86-64 they do nothing.

use super::workspace::LINE;

/// Whether prefetches do anything.
pub(crate) const HAS_PREFETCH: bool = cfg!(all(target_arch = "x86_64", not(miri)));
/// Rows of a factor that are prefetched before they are packed, where they are not contiguous with each other.
pub(crate) const PREFETCH_DEPTH: usize = 8;

/// Prefetches the cache lines that hold `len` elements from `start` on.
#[inline(always)]
pub(crate) fn prefetch<E>(start: *const E, len: usize) {
    let bytes = len * size_of::<E>();
    for offset in (0..bytes).step_by(LINE) {
        prefetch_line(start.wrapping_byte_add(offset));
    }
    // They need not begin with a line.
    prefetch_line(start.wrapping_byte_add(bytes.saturating_sub(1)));
}

/// Prefetches the cache line that holds `address` into all caches.
#[inline(always)]
pub(crate) fn prefetch_line<E>(address: *const E) {
    #[cfg(test)]
    trace::record(address);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// The lines that are prefetched: prefetches leave no other trace.
#[cfg(test)]
pub(crate) mod trace {
    use super::LINE;
    use std::cell::RefCell;

    thread_local! {
        static LINES: RefCell<Option<Vec<usize>>> = const { RefCell::new(None) };
    }

    pub(super) fn record<E>(address: *const E) {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.push(address.addr() / LINE)));
    }

    /// The lines that this thread prefetches while it runs `body`, in order.
    pub fn prefetched_by(body: impl FnOnce()) -> Vec<usize> {
        LINES.set(Some(Vec::new()));
        body();
        LINES.take().expect("nobody else takes them")
    }

    /// The lines that hold these values.
    pub fn lines_of<E>(values: &[E]) -> Vec<usize> {
        let bytes = values.as_ptr_range();
        (bytes.start.addr() / LINE..bytes.end.addr().div_ceil(LINE)).collect()
    }
}
