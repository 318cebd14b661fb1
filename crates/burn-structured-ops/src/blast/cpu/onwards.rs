//! Asking for factors that are read in order, a few rows side by side, before they are needed.
//!
//! A processor foresees the reading of memory in order, but not of a few rows side by side, a short piece of each at a time, nor
//! where another run begins. So lines are asked for in the order of memory, a fixed distance ahead of what is being read, and past the
//! end of a task's rows, where the task begins that its thread is likely to take next.

use crate::cpu::panel::prefetch_far;
use crate::cpu::{LINE, Matrix, Scalar};

/// How far beyond the rows that are read side by side, in bytes: as long as memory takes to answer. A second-level cache holds many
/// times that.
const DISTANCE: usize = 4 << 10;

/// Bytes that lie one after the other.
struct Run<E> {
    start: *const E,
    bytes: usize,
}

impl<E: Scalar> Run<E> {
    /// The rows of `matrix`, with what lies between them; nothing if they overlap or run backwards.
    fn of(matrix: Matrix<'_, E>) -> Self {
        let memory = matrix.onwards();
        let elements = match usize::try_from(matrix.row_stride) {
            Ok(stride) if stride >= matrix.cols && !memory.is_empty() => (matrix.rows - 1) * stride + matrix.cols,
            _ => 0,
        };
        Self { start: memory.as_ptr(), bytes: elements * size_of::<E>() }
    }
}

/// The lines from what a task reads on.
pub(super) struct Onwards<E> {
    here: Run<E>,
    row_bytes: usize,
    next: Run<E>,
    /// How far was asked for, in bytes from the task's beginning; those of the task after it come right behind.
    at: usize,
    /// How far to ask.
    until: usize,
    /// Lines to ask for at a time.
    lines: usize,
}

impl<E: Scalar> Onwards<E> {
    /// From the first row of `here`, which its thread may have asked for already, to the beginning of `next`.
    pub fn new(here: Matrix<'_, E>, next: Option<Matrix<'_, E>>) -> Self {
        let next = next.map_or(Run { start: std::ptr::null(), bytes: 0 }, Run::of);
        let row_bytes = here.row_stride.unsigned_abs() * size_of::<E>();
        Self { here: Run::of(here), row_bytes, next, at: 0, until: 0, lines: 0 }
    }

    /// For the reading of `rows` rows from `row` on, side by side in so many steps: the rows after them and some more.
    #[inline(always)]
    pub fn over(&mut self, row: usize, rows: usize, steps: usize) -> &mut Self {
        let group = rows * self.row_bytes;
        self.at = self.at.max(row * self.row_bytes);
        self.until = ((row + rows) * self.row_bytes + group + DISTANCE).min(self.here.bytes + self.next.bytes);
        // Twice as many as are read, so that a beginning that nobody asked for is caught up with.
        self.lines = (2 * group).div_ceil(LINE * steps.max(1));
        self
    }

    /// Asks for the lines of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.at >= self.until {
                return;
            }
            let address = match self.at.checked_sub(self.here.bytes) {
                None => self.here.start.cast::<u8>().wrapping_add(self.at),
                Some(offset) => self.next.start.cast::<u8>().wrapping_add(offset),
            };
            prefetch_far(address);
            self.at += LINE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a task asks that reads `rows` rows at a time, in so many steps, and how far it had to at the least.
    fn asked(here: Matrix<'_, f32>, next: Option<Matrix<'_, f32>>, rows: usize, steps: usize) -> [usize; 2] {
        let mut onwards = Onwards::new(here, next);
        for row in (0..here.rows).step_by(rows) {
            let read = rows.min(here.rows - row);
            let asking = onwards.over(row, read, steps);
            (0..steps).for_each(|_| asking.fetch());
            let past = (row + read) * onwards.row_bytes;
            assert!(onwards.at >= past.min(onwards.here.bytes), "what is read next is asked for");
        }
        // A task asks for twice as much as it reads at most.
        let here = onwards.here.bytes;
        [onwards.at, here + onwards.next.bytes.min(DISTANCE).min(here)]
    }

    #[test]
    fn a_task_asks_for_all_of_its_rows_and_for_the_beginning_of_the_next() {
        let values = vec![0.0f32; 40_000];
        for (rows, cols) in [(1, 1), (7, 16), (40, 33), (12, 900)] {
            let here = Matrix::row_major(&values, rows, cols, cols + 3);
            for next in [None, Some(here.rows(0, 1)), Some(Matrix::row_major(&values, 9, 4000, 4000))] {
                for (at_once, steps) in [(4, 1), (4, 7), (4, 100), (3, 20)] {
                    let [asked, least] = asked(here, next, at_once, steps);
                    assert!(asked >= least, "{rows} × {cols}, {at_once} in {steps} steps: {asked} of {least}");
                }
            }
        }
    }

    #[test]
    fn rows_that_overlap_or_run_backwards_are_not_asked_for() {
        let values = [0.0f32; 100];
        let repeated = Matrix::row_major(&values, 9, 10, 0);
        assert_eq!(Run::of(repeated).bytes, 0);
        assert_eq!(Run::of(Matrix::row_major(&values, 9, 10, 3)).bytes, 0);
        assert_eq!(Run::of(repeated.rows(0, 0)).bytes, 0);
        assert_eq!(asked(repeated, None, 4, 5), [0, 0]);
    }
}
