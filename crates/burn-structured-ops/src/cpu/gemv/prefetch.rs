//! Asking for factors that are read in order, a few rows side by side, before they are needed.
//!
//! A processor foresees the reading of memory in order, but not of a few rows side by side, a short piece of each at a time, nor
//! where another run begins. So lines are asked for in the order of memory, a fixed distance ahead of what is being read, and past the
//! end of a task's rows, where the task begins that its thread is likely to take next.

use super::ROWS;
use crate::cpu::runtime::prefetch::{prefetch_l2, prefetch_line};
use crate::cpu::{LINE, Matrix, Scalar};
use std::ops::Range;

/// How far beyond the rows that are read side by side, and as many after them, a single token asks, in bytes …
const DISTANCE: usize = 2 << 10;
/// … and several, or a long task: as long as memory takes to answer.
const FAR_DISTANCE: usize = 4 << 10;
/// Bytes of a task from which on a single token asks as several do, …
const LONG_TASK: usize = 512 << 10;
/// … and bytes of the rows that are read side by side.
const LONG_ROWS: usize = 16 << 10;

/// Lines that lie one after the other.
#[derive(Clone, Copy)]
struct Stretch {
    first: *const u8,
    lines: usize,
}

impl Stretch {
    /// Those that hold the rows of `matrix`, and what lies between them; none if they overlap or run backwards, or more lies between
    /// them than in them.
    fn of<E: Scalar>(matrix: Matrix<'_, E>) -> Self {
        let memory = matrix.onwards();
        let elements = match usize::try_from(matrix.row_stride) {
            Ok(stride)
                if matrix.rows > 0 && (stride >= matrix.cols && stride <= 2 * matrix.cols || matrix.rows == 1) =>
            {
                (matrix.rows - 1) * stride + matrix.cols
            }
            _ => 0,
        };
        let elements = elements.min(memory.len());
        let before = memory.as_ptr().addr() % LINE;
        let lines = if elements == 0 { 0 } else { (before + elements * size_of::<E>()).div_ceil(LINE) };
        Self { first: memory.as_ptr().cast::<u8>().wrapping_sub(before), lines }
    }

    /// Lines `from .. until` of these, as many as there are.
    #[inline(always)]
    fn between(self, from: usize, until: usize) -> Self {
        let from = from.min(self.lines);
        let lines = until.min(self.lines).saturating_sub(from);
        Self { first: self.first.wrapping_add(from * LINE), lines }
    }
}

/// What a task reads, and what its thread is likely to read after it.
pub(crate) struct StreamPrefetcher {
    here: Stretch,
    next: Stretch,
    row_bytes: usize,
    /// Lines of both that have been asked for.
    asked: usize,
    /// For the second-level cache, which has room to ask further ahead.
    far: bool,
}

impl StreamPrefetcher {
    /// From the first row of `here`, which its thread may have asked for already, into `next`, for so many tokens.
    ///
    /// Several keep rows for longer: the first-level cache has no room for those and the rows after them, the second-level cache has.
    /// A single token of a long task reads at the speed of memory, which more lines under way come closer to; in a short one the way
    /// from the second-level cache costs more than they gain, unless its rows are too long to be kept any nearer.
    pub fn new<E: Scalar>(here: Matrix<'_, E>, next: Option<Matrix<'_, E>>, tokens: usize) -> Self {
        let next = next.map_or(Stretch { first: std::ptr::null(), lines: 0 }, Stretch::of);
        let row_bytes = here.row_stride.unsigned_abs() * size_of::<E>();
        let here = Stretch::of(here);
        let long = here.lines * LINE >= LONG_TASK || ROWS * row_bytes >= LONG_ROWS;
        Self { here, next, row_bytes, asked: 0, far: tokens > 1 || long }
    }

    /// What to ask for while the rows `rows` are read side by side, in so many prefetch_steps: what was not asked for yet of these rows, of as
    /// many after them, and of the distance beyond.
    #[inline(always)]
    pub fn during(&mut self, rows: Range<usize>, prefetch_steps: usize) -> Lines {
        let of_here = self.here.lines;
        let distance = if self.far { FAR_DISTANCE } else { DISTANCE };
        let bytes = (rows.end + rows.len()) * self.row_bytes + distance;
        let wanted = bytes.div_ceil(LINE).min(of_here + self.next.lines);
        let now = self.here.between(self.asked, wanted);
        let then = self.next.between(self.asked.saturating_sub(of_here), wanted.saturating_sub(of_here));
        self.asked = wanted.max(self.asked);
        let at_a_time = (now.lines + then.lines).div_ceil(prefetch_steps.max(1));
        Lines { line: now.first, left: now.lines, next: then.first, left_of_next: then.lines, at_a_time, far: self.far }
    }
}

/// Lines to ask for, a few at a time.
pub(crate) struct Lines {
    line: *const u8,
    left: usize,
    /// Those after them.
    next: *const u8,
    left_of_next: usize,
    at_a_time: usize,
    /// For the second-level cache.
    far: bool,
}

impl Lines {
    /// Asks for those of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        for _ in 0..self.at_a_time {
            if self.left == 0 {
                if self.left_of_next == 0 {
                    return;
                }
                (self.line, self.left) = (self.next, self.left_of_next);
                self.left_of_next = 0;
            }
            if self.far {
                prefetch_l2(self.line)
            } else {
                prefetch_line(self.line)
            }
            self.line = self.line.wrapping_add(LINE);
            self.left -= 1;
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::runtime::prefetch::asked::{lines_of, trace_prefetches};

    #[test]
    fn a_task_asks_for_all_of_its_rows_and_for_the_beginning_of_the_next() {
        let values = vec![0.0f32; 40_000];
        for (rows, cols, offset) in [(1, 1, 0), (7, 16, 3), (40, 33, 0), (12, 900, 5), (4, 15, 15)] {
            let here = Matrix::row_major(&values[offset..], rows, cols, cols + 3);
            let lines = lines_of(&here.onwards()[..(rows - 1) * (cols + 3) + cols]);
            for next in [None, Some(here.rows(0, 1)), Some(Matrix::row_major(&values[17..], 9, 4000, 4000))] {
                // Rows of which the last may be fewer, and prefetch_steps that are as many as there are.
                for (tokens, at_once, prefetch_steps) in [(1, 4, 1), (2, 4, 7), (1, 4, 100), (8, 3, 20)] {
                    let mut onwards = StreamPrefetcher::new(here, next, tokens);
                    let asked = trace_prefetches(|| {
                        for row in (0..rows).step_by(at_once) {
                            let mut ahead = onwards.during(row..(row + at_once).min(rows), prefetch_steps);
                            (0..prefetch_steps).for_each(|_| ahead.fetch());
                            assert_eq!(ahead.left + ahead.left_of_next, 0, "in so many prefetch_steps");
                        }
                    });
                    let of_next = next.map_or(Vec::new(), |next| lines_of(&next.onwards()[..next.rows * next.cols]));
                    let case =
                        format!("{rows} × {cols} from {offset} on, {at_once} in {prefetch_steps} prefetch_steps");
                    assert!(asked.len() >= lines.len() + (DISTANCE / LINE - 1).min(of_next.len()) - 1, "{case}");
                    assert_eq!(asked, [lines.clone(), of_next].concat()[..asked.len()], "{case}");
                }
            }
        }
    }

    #[test]
    fn rows_that_overlap_or_lie_far_apart_are_not_asked_for() {
        let values = [0.0f32; 100];
        let repeated = Matrix::row_major(&values, 9, 10, 0);
        assert_eq!(Stretch::of(repeated).lines, 0);
        assert_eq!(Stretch::of(Matrix::row_major(&values, 9, 10, 3)).lines, 0);
        assert_eq!(Stretch::of(Matrix::row_major(&values, 4, 10, 21)).lines, 0, "a few columns of a wide matrix");
        assert_eq!(Stretch::of(repeated.rows(0, 0)).lines, 0);
        assert!(Stretch::of(repeated.rows(0, 1)).lines > 0, "a single row does not overlap");
        assert!(trace_prefetches(|| StreamPrefetcher::new(repeated, None, 2).during(0..4, 1).fetch()).is_empty());
    }
}
