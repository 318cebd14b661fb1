//! Asking for factors that are read in order, a few rows side by side, before they are needed.
//!
//! A processor foresees the reading of memory in order, but not of a few rows side by side, a short piece of each at a time, nor
//! where another run begins. So lines are asked for in the order of memory, a fixed distance ahead of what is being read, and past the
//! end of a task's rows, where the task begins that its thread is likely to take next.

use crate::cpu::panel::{Ask, prefetch_far};
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

/// What a task reads, and the beginning of what its thread is likely to read after it.
pub(super) struct Onwards<E> {
    here: Run<E>,
    row_bytes: usize,
    next: Run<E>,
}

impl<E: Scalar> Onwards<E> {
    /// From the first row of `here`, which its thread may have asked for already, to the beginning of `next`.
    pub fn new(here: Matrix<'_, E>, next: Option<Matrix<'_, E>>) -> Self {
        let next = next.map_or(Run { start: std::ptr::null(), bytes: 0 }, Run::of);
        let row_bytes = here.row_stride.unsigned_abs() * size_of::<E>();
        Self { here: Run::of(here), row_bytes, next }
    }

    /// What to ask for while `rows` rows from `row` on are read side by side, in so many steps: the rows after them and some more,
    /// but for what was asked for while as many were read before.
    #[inline(always)]
    pub fn during(&self, row: usize, rows: usize, steps: usize) -> Lines {
        let beyond = |row: usize| (row + rows) * self.row_bytes + DISTANCE;
        let (from, until) = (if row == 0 { 0 } else { beyond(row) }, beyond(row + rows));
        let share = |run: &Run<E>, from: usize, until: usize| {
            let until = until.min(run.bytes);
            let from = from.min(until);
            (run.start.cast::<u8>().wrapping_add(from), (until - from).div_ceil(LINE))
        };
        let (here, left) = share(&self.here, from, until);
        let after = |bytes: usize| bytes.saturating_sub(self.here.bytes);
        let (next, left_of_next) = share(&self.next, after(from), after(until));
        Lines { here, left, next, left_of_next, at_a_time: (left + left_of_next).div_ceil(steps.max(1)) }
    }
}

/// Lines to ask for, a few at a time.
pub(super) struct Lines {
    here: *const u8,
    left: usize,
    /// Those after them.
    next: *const u8,
    left_of_next: usize,
    at_a_time: usize,
}

impl Ask for Lines {
    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.at_a_time {
            if self.left == 0 {
                if self.left_of_next == 0 {
                    return;
                }
                (self.here, self.left) = (self.next, self.left_of_next);
                self.left_of_next = 0;
            }
            prefetch_far(self.here);
            self.here = self.here.wrapping_add(LINE);
            self.left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines a task asks for that reads `rows` rows at a time, in so many steps, and how many there are at the least.
    fn asked(here: Matrix<'_, f32>, next: Option<Matrix<'_, f32>>, rows: usize, steps: usize) -> [usize; 2] {
        let onwards = Onwards::new(here, next);
        let mut asked = 0;
        for row in (0..here.rows).step_by(rows) {
            let mut lines = onwards.during(row, rows.min(here.rows - row), steps);
            asked += lines.left + lines.left_of_next;
            (0..steps).for_each(|_| lines.fetch());
            assert_eq!(lines.left + lines.left_of_next, 0, "all are asked for when the rows are read");
        }
        [asked, onwards.here.bytes.div_ceil(LINE) + onwards.next.bytes.min(DISTANCE).div_ceil(LINE)]
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
    fn rows_that_overlap_are_not_asked_for() {
        let values = [0.0f32; 100];
        let repeated = Matrix::row_major(&values, 9, 10, 0);
        assert_eq!(Run::of(repeated).bytes, 0);
        assert_eq!(Run::of(Matrix::row_major(&values, 9, 10, 3)).bytes, 0);
        assert_eq!(Run::of(repeated.rows(0, 0)).bytes, 0);
        assert_eq!(asked(repeated, None, 4, 5), [0, 0]);
    }
}
