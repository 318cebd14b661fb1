//! Asking for what is needed next while arithmetic goes on.

use super::Rows;
use crate::cpu::{Matrix, Scalar};

/// Bytes of a cache line.
const LINE: usize = 64;

/// What is needed next, asked for a few cache lines at a time: a processor that is asked for many at once stands still until the
/// first have come.
pub(crate) struct Ahead<E> {
    at_hand: Lines<E>,
    /// What comes after it.
    then: Lines<E>,
    /// Lines to ask for at a time.
    lines: usize,
    /// Beside these, the left operand of the next tile, …
    next_rows: Lines<E>,
    /// … so many lines at a time.
    next_lines: usize,
}

impl<E: Scalar> Ahead<E> {
    /// The rows of one matrix and then of the other, or the columns of one where they are contiguous, in so many steps.
    pub fn new(matrices: [Option<Matrix<'_, E>>; 2], steps: usize) -> Self {
        let [at_hand, then] = matrices.map(|matrix| match matrix {
            Some(matrix) if steps > 0 => Lines::of(matrix),
            _ => Lines::none(),
        });
        let lines = (at_hand.count() + then.count()).div_ceil(steps.max(1));
        Self { at_hand, then, lines, next_rows: Lines::none(), next_lines: 0 }
    }

    /// Asks for these rows as well, within so many steps, if they lie in panels: a processor foresees rows that are a single run, but
    /// not that a run ends.
    #[inline(always)]
    pub fn rows(&mut self, rows: Rows<'_, E>, steps: usize) {
        self.next_rows = Lines::of_rows(rows);
        self.next_lines = self.next_rows.count().div_ceil(steps.max(1));
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.at_hand.rows == 0 && self.then.rows == 0 && self.next_rows.rows == 0
    }

    /// Asks for the lines of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        for _ in 0..self.next_lines {
            if self.next_rows.rows == 0 {
                break;
            }
            self.next_rows.fetch();
        }
        for _ in 0..self.lines {
            if self.at_hand.rows == 0 {
                if self.then.rows == 0 {
                    return;
                }
                self.at_hand = std::mem::replace(&mut self.then, Lines::none());
            }
            self.at_hand.fetch();
        }
    }
}

/// Rows of a matrix, line by line.
struct Lines<E> {
    /// The row being asked for.
    start: *const E,
    row_stride: isize,
    /// Those left, this one included.
    rows: usize,
    row_bytes: usize,
    /// Where in the row.
    at: usize,
}

impl<E: Scalar> Lines<E> {
    fn none() -> Self {
        Self { start: std::ptr::null(), row_stride: 0, rows: 0, row_bytes: 0, at: 0 }
    }

    /// The rows or columns, whichever are contiguous; nothing if neither are.
    fn of(matrix: Matrix<'_, E>) -> Self {
        let matrix = if matrix.col_stride == 1 { matrix } else { matrix.transposed() };
        if matrix.col_stride != 1 || matrix.rows * matrix.cols == 0 {
            return Self::none();
        }
        // Rows without a gap between them are a single one.
        let dense = matrix.row_stride == matrix.cols as isize;
        let (rows, cols) = if dense { (1, matrix.rows * matrix.cols) } else { (matrix.rows, matrix.cols) };
        let start = matrix.onwards().as_ptr();
        Self { start, row_stride: matrix.row_stride, rows, row_bytes: cols * size_of::<E>(), at: 0 }
    }

    /// The rows of a left operand in panels, where they lie side by side; nothing of any other.
    #[inline(always)]
    fn of_rows(rows: Rows<'_, E>) -> Self {
        let start = rows.data.as_ptr();
        if rows.count == 0 || rows.terms == 0 {
            Self::none()
        } else if rows.row_stride == rows.run && rows.terms > rows.run {
            let row_bytes = rows.count * rows.run * size_of::<E>();
            Self { start, row_stride: rows.run_stride as isize, rows: rows.terms.div_ceil(rows.run), row_bytes, at: 0 }
        } else {
            Self::none()
        }
    }

    /// Lines to ask for; a row need not begin with one.
    fn count(&self) -> usize {
        self.rows * (self.row_bytes.div_ceil(LINE) + 1)
    }

    /// Asks for one.
    #[inline(always)]
    fn fetch(&mut self) {
        prefetch_line(self.start.cast::<u8>().wrapping_add(self.at.min(self.row_bytes - 1)));
        self.at += LINE;
        if self.at >= self.row_bytes + LINE {
            self.start = self.start.wrapping_offset(self.row_stride);
            self.rows -= 1;
            self.at = 0;
        }
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
                for matrices in [[Some(matrix), None], [None, Some(matrix)], [Some(matrix); 2]] {
                    let mut ahead = Ahead::new(matrices, steps);
                    assert!(!ahead.is_empty());
                    (0..steps).for_each(|_| ahead.fetch());
                    assert!(ahead.is_empty(), "{rows} × {cols} in {steps} steps");
                    ahead.fetch();
                }
            }
            assert!(Ahead::new([Some(matrix); 2], 0).is_empty());
        }
        let by_columns = Matrix::row_major(&values, 3, 4, 9).transposed();
        assert!(!Ahead::new([Some(by_columns), None], 5).is_empty());
        assert!(Ahead::new([Some(by_columns.every_col(0, 2).transposed().every_col(0, 2)), None], 5).is_empty());
        assert!(Ahead::<f32>::new([None, None], 5).is_empty());
    }

    #[test]
    fn rows_in_panels_are_asked_for_and_others_are_not() {
        let values = vec![0.0f32; 4000];
        for steps in [1, 5, 300] {
            let mut ahead = Ahead::new([None, None], 0);
            ahead.rows(Rows::in_runs(&values, [12, 70], 32, 32, 600), steps);
            assert!(!ahead.is_empty());
            (0..steps).for_each(|_| ahead.fetch());
            assert!(ahead.is_empty(), "in {steps} steps");
            ahead.rows(Rows::of(Matrix::row_major(&values, 12, 70, 80)).expect("contiguous rows"), steps);
            assert!(ahead.is_empty());
        }
    }
}
