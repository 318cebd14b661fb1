//! Outputs that may be uninitialised: one owner, who shares them with threads that write elements of their own.

use super::Scalar;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A vector of `len` elements that `fill` writes; its memory is not cleared first.
///
/// # Safety
///
/// `fill` must write every element, and read none that it has not written.
pub(crate) unsafe fn alloc_uninit_with<E: Scalar>(len: usize, fill: impl FnOnce(Output<'_, E>)) -> Vec<E> {
    let mut elements = Vec::with_capacity(len);
    let start = elements.spare_capacity_mut().as_mut_ptr().cast();
    fill(Output(SharedOutput { start, len, borrowed: PhantomData }));
    // SAFETY: the capacity is there, and the elements are written, as the caller says.
    unsafe { elements.set_len(len) };
    elements
}

/// An output that a product writes. There is one for each, so that a product is alone with it.
pub(crate) struct Output<'a, E>(SharedOutput<'a, E>);

impl<'a, E: Scalar> Output<'a, E> {
    pub fn of_slice(elements: &'a mut [E]) -> Self {
        Self(SharedOutput::new(elements))
    }

    /// The output for the threads of one stage.
    pub fn share(&mut self) -> SharedOutput<'_, E> {
        self.0
    }

    /// Elements `start .. start + len` as an output of their own.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    pub fn part(&mut self, start: usize, len: usize) -> Output<'_, E> {
        Output(self.0.part(start, len))
    }
}

/// An output that several threads write at the same time, each to elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput<'a, E> {
    start: *mut E,
    len: usize,
    borrowed: PhantomData<&'a mut [E]>,
}

// SAFETY: only the unsafe functions below touch the elements, and their callers make sure that no two threads share one.
unsafe impl<E: Send> Send for SharedOutput<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for SharedOutput<'_, E> {}

impl<'a, E: Copy> SharedOutput<'a, E> {
    pub fn new(elements: &'a mut [E]) -> Self {
        Self { start: elements.as_mut_ptr(), len: elements.len(), borrowed: PhantomData }
    }

    pub fn len(self) -> usize {
        self.len
    }

    /// A pointer to the element `index`, which must not be read or written through it unless it exists.
    pub fn address(self, index: usize) -> *mut E {
        self.start.wrapping_add(index)
    }

    /// Elements `start .. start + len` as an output of their own.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    pub fn part(self, start: usize, len: usize) -> Self {
        assert!(start <= self.len && len <= self.len - start, "a part within the output");
        Self { start: self.start.wrapping_add(start), len, ..self }
    }

    /// Elements `start .. start + len`, which may be uninitialised.
    ///
    /// # Safety
    ///
    /// While the slice lives, nothing else may access these elements, and what was initialised must stay so.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    #[inline(always)]
    pub unsafe fn uninit_slice(self, start: usize, len: usize) -> &'a mut [MaybeUninit<E>] {
        let part = self.part(start, len);
        // SAFETY: within the memory borrowed for `'a`, as asserted; not shared, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(part.start.cast(), len) }
    }

    /// Elements `start .. start + len`.
    ///
    /// # Safety
    ///
    /// They must be initialised, and nothing else may access them while the slice lives.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    #[inline(always)]
    pub unsafe fn slice(self, start: usize, len: usize) -> &'a mut [E] {
        // SAFETY: as the caller says.
        unsafe { self.uninit_slice(start, len).assume_init_mut() }
    }
}
