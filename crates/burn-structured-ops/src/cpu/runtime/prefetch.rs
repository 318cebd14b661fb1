//! Asking the processor for cache lines. On architectures other than x86-64 nothing is asked for.

use crate::cpu::LINE;

/// Whether this processor is asked for lines at all.
pub(crate) const HAS_PREFETCH: bool = cfg!(target_arch = "x86_64");
/// Terms of a panel to ask for ahead, where they do not lie one after the other: each may be in a page of its own, which the
/// processor does not foresee.
pub(crate) const AHEAD_TERMS: usize = 8;

/// Asks for the cache lines that hold `len` elements from `start` on.
#[inline(always)]
pub(crate) fn prefetch<E>(start: *const E, len: usize) {
    let bytes = len * size_of::<E>();
    for offset in (0..bytes).step_by(LINE) {
        prefetch_line(start.cast::<u8>().wrapping_add(offset));
    }
    // They need not begin with a line.
    prefetch_line(start.cast::<u8>().wrapping_add(bytes.saturating_sub(1)));
}

/// Asks for the cache line that holds `address`.
#[inline(always)]
pub(crate) fn prefetch_line<E>(address: *const E) {
    #[cfg(test)]
    asked::note(address);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line that holds `address`, for the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_l2<E>(address: *const E) {
    #[cfg(test)]
    asked::note(address);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line that holds `address`, to write it.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "a prefetch neither reads nor writes what is there")]
pub(crate) fn prefetch_write<E>(address: *const E) {
    #[cfg(test)]
    asked::note(address);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction does not fault, neither on an address nor on a processor that does not know it: those of x86-64 that
    // cannot claim a line do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Which lines are asked for: prefetches leave no other trace.
#[cfg(test)]
pub(crate) mod asked {
    use super::LINE;
    use std::cell::RefCell;

    thread_local! {
        static LINES: RefCell<Option<Vec<usize>>> = const { RefCell::new(None) };
    }

    pub(crate) fn note<E>(address: *const E) {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.push(address.addr() / LINE)));
    }

    /// The lines that this thread asks for meanwhile, in order.
    pub fn trace_prefetches(asks: impl FnOnce()) -> Vec<usize> {
        LINES.set(Some(Vec::new()));
        asks();
        LINES.take().expect("nobody else takes them")
    }

    /// The lines that hold these values.
    pub fn lines_of<E>(values: &[E]) -> Vec<usize> {
        let bytes = values.as_ptr_range();
        (bytes.start.addr() / LINE..bytes.end.addr().div_ceil(LINE)).collect()
    }
}
