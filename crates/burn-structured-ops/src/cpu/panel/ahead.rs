//! Asking for what is needed next while arithmetic goes on.

use super::Rows;
use crate::cpu::{LINE, Matrix, Scalar};

/// Rows that are needed next, asked for a few cache lines at a time: a processor that is asked for many at once stands still
/// until the first have come.
pub(crate) struct Ahead<E> {
    /// The row being asked for.
    start: *const E,
    row_stride: isize,
    /// Those left, this one included.
    rows: usize,
    row_bytes: usize,
    /// Where in the row.
    at: usize,
    /// Lines to ask for at a time.
    lines: usize,
}

impl<E> Default for Ahead<E> {
    /// Nothing.
    fn default() -> Self {
        Self { start: std::ptr::null(), row_stride: 0, rows: 0, row_bytes: 0, at: 0, lines: 0 }
    }
}

impl<E: Scalar> Ahead<E> {
    /// The rows of `matrix`, or its columns, whichever are contiguous, in so many steps.
    pub fn new(matrix: Option<Matrix<'_, E>>, steps: usize) -> Self {
        let Some(matrix) = matrix else { return Self::default() };
        let matrix = if matrix.col_stride == 1 { matrix } else { matrix.transposed() };
        if matrix.col_stride != 1 {
            return Self::default();
        }
        // Rows without a gap between them are a single one.
        let dense = matrix.row_stride == matrix.cols as isize;
        let [rows, cols] = if dense { [1, matrix.rows * matrix.cols] } else { [matrix.rows, matrix.cols] };
        Self::of(matrix.onwards().as_ptr(), [rows, cols], matrix.row_stride, steps)
    }

    /// The rows of a left operand, if they lie side by side in panels: a processor foresees rows that are a single run, but not that
    /// a run ends.
    #[inline(always)]
    pub fn in_panels(rows: Rows<'_, E>, steps: usize) -> Self {
        if rows.row_stride != rows.run || rows.terms <= rows.run {
            return Self::default();
        }
        let [panels, cols] = [rows.terms.div_ceil(rows.run), rows.count * rows.run];
        Self::of(rows.data.as_ptr(), [panels, cols], rows.run_stride as isize, steps)
    }

    #[inline(always)]
    fn of(start: *const E, [rows, cols]: [usize; 2], row_stride: isize, steps: usize) -> Self {
        if rows * cols * steps == 0 {
            return Self::default();
        }
        let row_bytes = cols * size_of::<E>();
        // A row need not begin with a line.
        let lines = (rows * (row_bytes.div_ceil(LINE) + 1)).div_ceil(steps);
        Self { start, row_stride, rows, row_bytes, at: 0, lines }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Asks for the lines of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.rows == 0 {
                return;
            }
            prefetch_line(self.start.cast::<u8>().wrapping_add(self.at.min(self.row_bytes - 1)));
            self.at += LINE;
            if self.at >= self.row_bytes + LINE {
                self.start = self.start.wrapping_offset(self.row_stride);
                self.rows -= 1;
                self.at = 0;
            }
        }
    }
}

/// All that a product asks for meanwhile.
pub(super) struct Needed<E> {
    /// What comes after the product.
    pub after: [Ahead<E>; 2],
    /// The left operand of the next tile.
    pub rows: Ahead<E>,
}

impl<E: Scalar> Needed<E> {
    /// Two matrices after the product, which has so many steps.
    pub fn new(after: [Option<Matrix<'_, E>>; 2], steps: usize) -> Self {
        Self { after: after.map(|matrix| Ahead::new(matrix, steps)), rows: Ahead::default() }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.after.iter().all(Ahead::is_empty)
    }

    /// Asks for the lines of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        self.rows.fetch();
        self.after.iter_mut().for_each(Ahead::fetch);
    }
}

/// Terms of a panel to ask for ahead, where they do not lie one after the other: each may be in a page of its own, which the
/// processor does not foresee.
pub(super) const AHEAD_TERMS: usize = 8;

/// Asks for the cache lines that hold `len` elements from `start` on.
#[inline(always)]
pub(super) fn prefetch<E>(start: *const E, len: usize) {
    let bytes = len * size_of::<E>();
    for offset in (0..bytes).step_by(LINE) {
        prefetch_line(start.cast::<u8>().wrapping_add(offset));
    }
    // They need not begin with a line.
    prefetch_line(start.cast::<u8>().wrapping_add(bytes.saturating_sub(1)));
}

/// Asks for the cache line that holds `address`.
#[inline(always)]
fn prefetch_line<E>(address: *const E) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_have_been_asked_for_after_the_last_step() {
        let values = vec![0.0f32; 4000];
        for (rows, cols) in [(1, 1), (7, 16), (40, 33), (3, 900)] {
            let matrix = Matrix::row_major(&values, rows, cols, cols + 3);
            for steps in [1, 2, 9, 1000] {
                let mut ahead = Ahead::new(Some(matrix), steps);
                assert!(!ahead.is_empty());
                (0..steps).for_each(|_| ahead.fetch());
                assert!(ahead.is_empty(), "{rows} × {cols} in {steps} steps");
                ahead.fetch();
            }
            assert!(Ahead::new(Some(matrix), 0).is_empty());
        }
        let by_columns = Matrix::row_major(&values, 3, 4, 9).transposed();
        assert!(!Ahead::new(Some(by_columns), 5).is_empty());
        assert!(Ahead::new(Some(by_columns.every_col(0, 2).transposed().every_col(0, 2)), 5).is_empty());
        assert!(Ahead::<f32>::new(None, 5).is_empty());
    }

    #[test]
    fn a_product_asks_for_all_that_it_needs() {
        let values = vec![0.0f32; 4000];
        let matrix = Some(Matrix::row_major(&values, 7, 16, 19));
        for after in [[matrix, None], [None, matrix], [matrix; 2]] {
            for steps in [1, 2, 9] {
                let mut needed = Needed::new(after, steps);
                assert!(!needed.is_empty());
                (0..steps).for_each(|_| needed.fetch());
                assert!(needed.is_empty(), "in {steps} steps");
            }
        }
    }

    #[test]
    fn rows_in_panels_are_asked_for_and_others_are_not() {
        let values = vec![0.0f32; 4000];
        for steps in [1, 5, 300] {
            let mut ahead = Ahead::in_panels(Rows::in_runs(&values, [12, 70], 32, 32, 600), steps);
            assert!(!ahead.is_empty());
            (0..steps).for_each(|_| ahead.fetch());
            assert!(ahead.is_empty(), "in {steps} steps");
            let rows = Rows::of(Matrix::row_major(&values, 12, 70, 80)).expect("contiguous rows");
            assert!(Ahead::in_panels(rows, steps).is_empty());
        }
    }
}
