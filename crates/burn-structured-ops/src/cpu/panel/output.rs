//! Where products are written, and what becomes of what was there.

use crate::cpu::Scalar;
use std::marker::PhantomData;

/// An output that several threads write at the same time, each to elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput<'a, E> {
    start: *mut E,
    len: usize,
    borrowed: PhantomData<&'a mut [E]>,
}

// SAFETY: only the unsafe functions below touch the elements, and their callers see to it that no two threads share one.
unsafe impl<E: Send> Send for SharedOutput<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for SharedOutput<'_, E> {}

impl<'a, E: Scalar> SharedOutput<'a, E> {
    pub fn len(self) -> usize {
        self.len
    }

    pub fn new(elements: &'a mut [E]) -> Self {
        Self { start: elements.as_mut_ptr(), len: elements.len(), borrowed: PhantomData }
    }

    /// Elements `start .. start + len`.
    ///
    /// # Safety
    ///
    /// While the slice lives, nothing else may access these elements.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    #[inline(always)]
    pub unsafe fn slice(self, start: usize, len: usize) -> &'a mut [E] {
        assert!(start <= self.len && len <= self.len - start, "a slice within the output");
        // SAFETY: within the elements borrowed for `'a`, as asserted; not shared, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// What a product does with its output.
#[derive(Clone, Copy)]
pub(crate) enum Landing<'a, E> {
    /// Replaces what was there.
    Overwrite,
    /// Adds to what was there.
    AddTo,
    /// Replaces what was there by the product plus these values, one for each column.
    Bias(&'a [E]),
}
