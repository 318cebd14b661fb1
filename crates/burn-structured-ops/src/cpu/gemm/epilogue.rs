//! Where products are written, and what becomes of what was there.

use crate::cpu::{Scalar, load_at, store_at};
use pulp::Simd;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A vector of `len` elements, all of which `fill` writes: nothing else has to touch their memory before.
///
/// # Safety
///
/// `fill` must write every element, and read none that it has not written.
pub(crate) unsafe fn alloc_uninit_with<E: Scalar>(len: usize, fill: impl FnOnce(SharedOutput<'_, E>)) -> Vec<E> {
    let mut elements = Vec::with_capacity(len);
    let start = elements.spare_capacity_mut().as_mut_ptr().cast();
    fill(SharedOutput { start, len, borrowed: PhantomData });
    // SAFETY: the capacity is there, and the elements are written, as the caller says.
    unsafe { elements.set_len(len) };
    elements
}

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

    /// Where the element `at` is.
    pub fn address(self, at: usize) -> *const E {
        self.start.wrapping_add(at)
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

    /// Elements `start .. start + len`, to be written.
    ///
    /// # Safety
    ///
    /// While the slice lives, nothing else may access these elements. What was written may not be overwritten by nothing.
    ///
    /// # Panics
    ///
    /// If there are fewer elements.
    #[inline(always)]
    pub unsafe fn uninit_slice(self, start: usize, len: usize) -> &'a mut [MaybeUninit<E>] {
        assert!(start <= self.len && len <= self.len - start, "a slice within the output");
        // SAFETY: within the memory borrowed for `'a`, as asserted; not shared, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start).cast(), len) }
    }

    /// Elements `start .. start + len`.
    ///
    /// # Safety
    ///
    /// They must have been written, unless the output is a slice's, and nothing else may access them while the slice lives.
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

/// What a product does with its target.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a, E> {
    /// Replaces what was there.
    Store,
    /// Adds to what was there.
    Accumulate,
    /// Replaces what was there by the product plus these values, one for each column.
    Bias(&'a [E]),
}

impl<'a, E> Epilogue<'a, E> {
    /// The same for the columns from `first` on.
    #[inline(always)]
    fn cols_from(self, first: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[first..]),
            other => other,
        }
    }

    /// The same for the first `count` columns.
    #[inline(always)]
    fn first_cols(self, count: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[..count]),
            other => other,
        }
    }
}

/// Where a product goes: into rows that start at `offset` and lie `stride` deinterleave.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a, E> {
    pub out: SharedOutput<'a, E>,
    pub offset: usize,
    pub stride: usize,
    pub epilogue: Epilogue<'a, E>,
}

impl<'a, E: Scalar> Target<'a, E> {
    /// Makes sure that there is room for so many rows and columns.
    ///
    /// # Panics
    ///
    /// If there is not, or the bias does not have a value for every column.
    #[inline(always)]
    pub fn check(self, rows: usize, cols: usize) {
        if rows > 0 {
            assert!(self.offset + (rows - 1) * self.stride + cols <= self.out.len(), "the output holds the product");
        }
        if let Epilogue::Bias(bias) = self.epilogue {
            assert_eq!(bias.len(), cols, "a bias for every column");
        }
    }

    /// The target of the rows from `first` on.
    #[inline(always)]
    pub fn rows_from(self, first: usize) -> Self {
        Self { offset: self.offset + first * self.stride, ..self }
    }

    /// The target of the columns from `first` on.
    #[inline(always)]
    pub fn cols_from(self, first: usize) -> Self {
        Self { offset: self.offset + first, epilogue: self.epilogue.cols_from(first), ..self }
    }

    /// The target of the columns `first .. first + count`.
    #[inline(always)]
    pub fn cols(self, first: usize, count: usize) -> Self {
        let from = self.cols_from(first);
        Self { epilogue: from.epilogue.first_cols(count), ..from }
    }

    /// The target of what is added to the product that is written here.
    #[inline(always)]
    pub fn accumulate(self) -> Self {
        Self { epilogue: Epilogue::Accumulate, ..self }
    }

    /// Where the first row begins, if the next `rows` rows of `cols` columns are to be written from there on.
    ///
    /// # Panics
    ///
    /// If they are not within the output.
    #[inline(always)]
    fn start(self, rows: usize, cols: usize) -> *mut E {
        let last = self.row(rows - 1);
        assert!(last <= self.out.len && cols <= self.out.len - last, "rows within the output");
        self.out.start.wrapping_add(self.offset)
    }

    /// Brings the sums of the first `V` vectors of a panel here.
    ///
    /// One loop for each kind of epilogue, and nothing in it that could fail: only then are the sums never spilt. What is spilt waits
    /// behind the rows of the target, which come from memory.
    ///
    /// # Panics
    ///
    /// If they are not within the output.
    ///
    /// # Safety
    ///
    /// Nothing else may access these elements meanwhile. What is added to must have been written.
    #[inline(always)]
    pub unsafe fn store_tile<S: Simd, const R: usize, const V: usize>(self, simd: S, sums: [[E::Vector<S>; V]; R]) {
        let lanes = E::lanes::<S>();
        let (start, stride) = (self.start(R, V * lanes), self.stride);
        // SAFETY: the rows are within the output, as just asserted; access to them is exclusive, and what is added to has been written,
        // as the caller says.
        unsafe {
            match self.epilogue {
                Epilogue::Store => {
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            store_at::<S, E>(start.add(i * stride + v * lanes), sum);
                        }
                    }
                }
                Epilogue::Accumulate => {
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            let at = start.add(i * stride + v * lanes);
                            store_at::<S, E>(at, E::plus(simd, sum, load_at::<S, E>(at)));
                        }
                    }
                }
                Epilogue::Bias(bias) => {
                    let bias = &bias[..V * lanes];
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            let sum = E::plus(simd, sum, load_at::<S, E>(bias.as_ptr().add(v * lanes)));
                            store_at::<S, E>(start.add(i * stride + v * lanes), sum);
                        }
                    }
                }
            }
        }
    }

    /// Brings sums of row `i`, for its first columns, here.
    ///
    /// # Panics
    ///
    /// If they are not within the output.
    ///
    /// # Safety
    ///
    /// As [`store_tile`](Self::store_tile).
    #[inline(always)]
    pub unsafe fn store_partial_tile(self, i: usize, sums: &[E]) {
        // SAFETY: as the caller says.
        unsafe {
            match self.epilogue {
                Epilogue::Store => _ = self.out.uninit_slice(self.row(i), sums.len()).write_copy_of_slice(sums),
                Epilogue::Accumulate => {
                    let out = self.out.slice(self.row(i), sums.len());
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += *sum);
                }
                Epilogue::Bias(bias) => {
                    let out = self.out.uninit_slice(self.row(i), sums.len());
                    out.iter_mut().zip(sums).zip(bias).for_each(|((out, sum), bias)| _ = out.write(*sum + *bias));
                }
            }
        }
    }

    /// Where row `index` begins in the output.
    #[inline(always)]
    fn row(self, index: usize) -> usize {
        self.offset + index * self.stride
    }
}
