//! Where a product is written, and what becomes of a tile as it is stored.

use super::Finish;
use crate::cpu::{Scalar, SharedOutput, load_at, store_at};
use pulp::Simd;
use std::marker::PhantomData;

/// What happens to a tile as it is stored.
///
/// A product that is deeper than one packed block is stored several times: the caller's epilogue goes with the first block, and the
/// others [accumulate](Self::Accumulate). What is not additive comes after the last one, see [`Finish`].
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a, E> {
    /// It replaces what was there.
    Store,
    /// It is added to what was there.
    Accumulate,
    /// It is stored with these values added, one for each column.
    Bias(&'a [E]),
}

impl<'a, E> Epilogue<'a, E> {
    /// Adds the bias, if there is one.
    pub(super) fn bias(bias: Option<&'a [E]>) -> Self {
        bias.map_or(Self::Store, Self::Bias)
    }

    /// The epilogue of columns `first .. first + count`.
    #[inline(always)]
    fn cols(self, first: usize, count: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[first..first + count]),
            other => other,
        }
    }
}

/// A matrix that tiles of a product are stored to: rows that are `stride` elements apart.
///
/// It does not leave its thread, so copies of it cannot race.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a, E> {
    start: *mut E,
    pub rows: usize,
    pub cols: usize,
    stride: usize,
    epilogue: Epilogue<'a, E>,
    borrowed: PhantomData<SharedOutput<'a, E>>,
}

impl<'a, E: Scalar> Target<'a, E> {
    /// `rows` rows of `cols` elements of `out` that begin at `offset` and are `stride` apart.
    ///
    /// # Safety
    ///
    /// While the target or a copy of it lives, nothing else may access these elements. Those that are accumulated to must be
    /// initialised.
    ///
    /// # Panics
    ///
    /// If the output does not hold them, or there is a bias of another length than `cols`.
    #[inline(always)]
    pub unsafe fn new(
        out: SharedOutput<'a, E>,
        offset: usize,
        [rows, cols]: [usize; 2],
        stride: usize,
        epilogue: Epilogue<'a, E>,
    ) -> Self {
        if rows > 0 {
            assert!(offset + (rows - 1) * stride + cols <= out.len(), "the output holds the product");
        }
        if let Epilogue::Bias(bias) = epilogue {
            assert_eq!(bias.len(), cols, "a bias for every column");
        }
        Self { start: out.address(offset), rows, cols, stride, epilogue, borrowed: PhantomData }
    }

    /// All of a matrix in a slice, with rows of `stride` elements, of which `cols` are stored.
    #[inline(always)]
    pub fn of_slice(out: &'a mut [E], [rows, cols]: [usize; 2], stride: usize) -> Self {
        // SAFETY: the slice is borrowed for as long as the target lives, and initialised.
        unsafe { Self::new(SharedOutput::new(out), 0, [rows, cols], stride, Epilogue::Store) }
    }

    /// The rows from `first` on.
    #[inline(always)]
    pub fn rows_from(self, first: usize) -> Self {
        let rows = self.rows.checked_sub(first).expect("rows of the target");
        Self { start: self.start.wrapping_add(first * self.stride), rows, ..self }
    }

    /// Columns `first .. first + count`.
    #[inline(always)]
    pub fn cols(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.cols, "columns of the target");
        Self { start: self.start.wrapping_add(first), cols: count, epilogue: self.epilogue.cols(first, count), ..self }
    }

    /// The same elements, to accumulate to.
    ///
    /// # Safety
    ///
    /// They must be initialised: a product must have been stored here.
    #[inline(always)]
    pub unsafe fn accumulate(self) -> Self {
        Self { epilogue: Epilogue::Accumulate, ..self }
    }

    /// Applies everything but the bias of what follows the product, to elements that begin at `[row, col]` of an output with rows as far
    /// apart as the target's.
    ///
    /// # Safety
    ///
    /// The elements must be initialised: a product must have been stored here.
    ///
    /// # Panics
    ///
    /// If a tensor that is multiplied or added has fewer elements.
    pub unsafe fn finish(self, finish: Finish<'_, E>, [row, col]: [usize; 2]) {
        if finish.is_bias() {
            return;
        }
        for i in 0..self.rows {
            let start = self.start.wrapping_add(i * self.stride);
            // SAFETY: a row of the target, whose elements are this thread's alone, and initialised, as the caller says.
            let y = unsafe { std::slice::from_raw_parts_mut(start, self.cols) };
            finish.apply(y, (row + i) * self.stride + col);
        }
    }

    /// Stores `R` rows of `V` vectors.
    ///
    /// One loop for each epilogue, with nothing in it that can panic: only then does the compiler keep the sums in registers.
    ///
    /// # Panics
    ///
    /// If the target is smaller.
    #[inline(always)]
    pub fn store_tile<S: Simd, const R: usize, const V: usize>(self, simd: S, sums: [[E::Vector<S>; V]; R]) {
        let lanes = E::lanes::<S>();
        assert!(R <= self.rows && V * lanes <= self.cols, "a tile within the target");
        let (start, stride) = (self.start, self.stride);
        let at = |i: usize, v: usize| start.wrapping_add(i * stride + v * lanes);
        // SAFETY: the tile is within the target, as asserted, and the target's elements are this thread's alone, and initialised where
        // they are accumulated to, as the caller of `new` or `accumulate` said. A bias has a value for every column.
        unsafe {
            match self.epilogue {
                Epilogue::Store => {
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            store_at::<S, E>(at(i, v), sum);
                        }
                    }
                }
                Epilogue::Accumulate => {
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            store_at::<S, E>(at(i, v), E::plus(simd, sum, load_at::<S, E>(at(i, v))));
                        }
                    }
                }
                Epilogue::Bias(bias) => {
                    let bias = bias.as_ptr();
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (v, sum) in sums.into_iter().enumerate() {
                            let sum = E::plus(simd, sum, load_at::<S, E>(bias.add(v * lanes)));
                            store_at::<S, E>(at(i, v), sum);
                        }
                    }
                }
            }
        }
    }

    /// Stores all columns of row `i`, of which there are fewer than a tile has.
    ///
    /// # Panics
    ///
    /// If there is no such row, or the sums are not as many as the columns.
    #[inline(always)]
    pub fn store_partial_tile(self, i: usize, sums: &[E]) {
        assert!(i < self.rows && sums.len() == self.cols, "a row of the target");
        let row = self.start.wrapping_add(i * self.stride);
        for (c, sum) in sums.iter().enumerate() {
            // SAFETY: as in `store_tile`.
            unsafe {
                let out = row.add(c);
                out.write(match self.epilogue {
                    Epilogue::Store => *sum,
                    Epilogue::Accumulate => *out + *sum,
                    Epilogue::Bias(bias) => *sum + bias[c],
                });
            }
        }
    }
}
