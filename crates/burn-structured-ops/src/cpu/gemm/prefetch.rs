//! Asking for what is needed next while arithmetic goes on.

use super::{Rows, SharedOutput};
use crate::cpu::runtime::prefetch::{HAS_PREFETCH, prefetch_line, prefetch_write};
use crate::cpu::{LINE, Matrix, Scalar};

/// Lines beside the next factor to ask for in a step at most.
const MOST_BESIDE: usize = 16;

/// Rows that are needed next, asked for a few cache lines at a time: a processor that is asked for many at once stands still
/// until the first have come. If they are to be written (`WRITE`), it takes them from the other cores.
pub(crate) struct PrefetchCursor<E, const WRITE: bool = false> {
    /// The row being asked for.
    start: *const E,
    row_stride: isize,
    /// Those left of a block, this one included.
    rows: usize,
    row_bytes: usize,
    /// How many bytes after the beginning of its first line.
    at: usize,
    /// Blocks after this one, their rows, and how far each is from where the rows before it end.
    blocks: usize,
    block_rows: usize,
    gap: isize,
    /// Lines to ask for at a time; none before it is known in how many [prefetch_steps](Self::in_steps).
    lines: usize,
}

impl<E, const WRITE: bool> Default for PrefetchCursor<E, WRITE> {
    /// Nothing.
    fn default() -> Self {
        let start = std::ptr::null();
        Self { start, row_stride: 0, rows: 0, row_bytes: 0, at: 0, blocks: 0, block_rows: 0, gap: 0, lines: 0 }
    }
}

impl<E: Scalar> PrefetchCursor<E> {
    /// The rows of `matrix`, or its columns, whichever are contiguous.
    pub fn new(matrix: Option<Matrix<'_, E>>) -> Self {
        let Some(matrix) = matrix else { return Self::default() };
        let matrix = if matrix.col_stride == 1 { matrix } else { matrix.transposed() };
        if matrix.col_stride != 1 {
            return Self::default();
        }
        // Rows without a gap between them are a single one.
        let dense = matrix.row_stride == matrix.cols as isize;
        let [rows, cols] = if dense { [1, matrix.rows * matrix.cols] } else { [matrix.rows, matrix.cols] };
        Self::in_blocks(matrix.onwards().as_ptr(), [1, rows, cols], [0, matrix.row_stride])
    }

    /// The rows of a left operand, if they lie side by side in panels: a processor foresees rows that are a single run, but not that
    /// a run ends.
    #[inline(always)]
    pub fn in_panels(rows: Rows<'_, E>) -> Self {
        if rows.row_stride != rows.run || rows.terms <= rows.run {
            return Self::default();
        }
        let [panels, cols] = [rows.terms.div_ceil(rows.run), rows.count * rows.run];
        Self::in_blocks(rows.data.as_ptr(), [1, panels, cols], [0, rows.run_stride as isize])
    }
}

impl<E: Scalar> PrefetchCursor<E, true> {
    /// Part of an output, from `offset` on: `rows` of `cols` elements in each of so many blocks, at the strides given.
    pub fn to_write(out: SharedOutput<'_, E>, offset: usize, sizes: [usize; 3], strides: [usize; 2]) -> Self {
        Self::in_blocks(out.address(offset), sizes, strides.map(|stride| stride as isize))
    }
}

impl<E: Scalar, const WRITE: bool> PrefetchCursor<E, WRITE> {
    /// Rows of `cols` contiguous elements, `rows` in each of `blocks`, at the strides given.
    #[inline(always)]
    pub fn in_blocks(
        start: *const E,
        [blocks, rows, cols]: [usize; 3],
        [block_stride, row_stride]: [isize; 2],
    ) -> Self {
        if blocks * rows * cols == 0 {
            return Self::default();
        }
        let gap = block_stride - row_stride * rows as isize;
        let row_bytes = cols * size_of::<E>();
        Self { start, row_stride, rows, row_bytes, at: 0, blocks: blocks - 1, block_rows: rows, gap, lines: 0 }
    }

    /// The same, in so many prefetch_steps.
    #[inline(always)]
    pub fn in_steps(self, prefetch_steps: usize) -> Self {
        if prefetch_steps == 0 {
            return Self::default();
        }
        let bytes = |elements: isize| elements.unsigned_abs() * size_of::<E>();
        // Rows need not begin with a line, and unless they are lines deinterleave, each begins elsewhere in one.
        let alike = bytes(self.row_stride) % LINE == 0 && bytes(self.gap) % LINE == 0;
        let before = if alike { self.start.addr() % LINE } else { LINE - 1 };
        let lines = (self.blocks + 1) * self.block_rows * (before + self.row_bytes).div_ceil(LINE);
        Self { lines: lines.div_ceil(prefetch_steps), ..self }
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
            let before = self.start.addr() % LINE;
            let line = self.start.cast::<u8>().wrapping_sub(before).wrapping_add(self.at);
            if WRITE {
                prefetch_write(line)
            } else {
                prefetch_line(line)
            }
            self.at += LINE;
            if self.at >= before + self.row_bytes {
                self.start = self.start.wrapping_offset(self.row_stride);
                self.rows -= 1;
                self.at = 0;
                if self.rows == 0 && self.blocks > 0 {
                    self.start = self.start.wrapping_offset(self.gap);
                    self.rows = self.block_rows;
                    self.blocks -= 1;
                }
            }
        }
    }
}

/// What is needed after one or more products, beside the next factor.
pub(crate) struct ExtraPrefetch<E> {
    /// What will be read, …
    pub read: PrefetchCursor<E>,
    /// … and what will be written: another core may have read it last.
    pub write: PrefetchCursor<E, true>,
}

impl<E> Default for ExtraPrefetch<E> {
    /// Nothing.
    fn default() -> Self {
        Self { read: PrefetchCursor::default(), write: PrefetchCursor::default() }
    }
}

impl<E: Scalar> ExtraPrefetch<E> {
    /// The same, in so many prefetch_steps. What would be too much for them is not asked for.
    #[inline(always)]
    pub fn in_steps(self, prefetch_steps: usize) -> Self {
        let (mut read, mut write) = (self.read.in_steps(prefetch_steps), self.write.in_steps(prefetch_steps));
        read.lines = read.lines.min(MOST_BESIDE);
        write.lines = write.lines.min(MOST_BESIDE);
        Self { read, write }
    }
}

/// All that a product asks for meanwhile.
pub(super) struct PrefetchSchedule<'a, E> {
    /// What comes after the product.
    after: PrefetchCursor<E>,
    /// The left operand of the next tile.
    pub rows: PrefetchCursor<E>,
    beside: &'a mut ExtraPrefetch<E>,
}

impl<'a, E: Scalar> PrefetchSchedule<'a, E> {
    /// A matrix after the product, which has so many prefetch_steps, and what is beside it.
    pub fn new(after: Option<Matrix<'_, E>>, prefetch_steps: usize, beside: &'a mut ExtraPrefetch<E>) -> Self {
        Self { after: PrefetchCursor::new(after).in_steps(prefetch_steps), rows: PrefetchCursor::default(), beside }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !HAS_PREFETCH
            || self.rows.is_empty()
                && self.after.is_empty()
                && self.beside.read.is_empty()
                && self.beside.write.is_empty()
    }

    /// Asks for the lines of one step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        self.rows.fetch();
        self.after.fetch();
        self.beside.read.fetch();
        self.beside.write.fetch();
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::runtime::prefetch::asked::{lines_of, trace_prefetches};

    /// Rows of `cols` elements in blocks, somewhere in a line, asked for in so many prefetch_steps: exactly the lines that hold them, no line of a
    /// row twice, and all of them when the prefetch_steps are over.
    fn check_blocks([blocks, rows, cols]: [usize; 3], [block_stride, row_stride]: [usize; 2], offset: usize) {
        let values = vec![0.0f32; offset + blocks * block_stride + rows * row_stride + cols];
        let start = |block: usize, row: usize| offset + block * block_stride + row * row_stride;
        let expected: Vec<Vec<usize>> = (0..blocks)
            .flat_map(|block| (0..rows).map(move |row| (block, row)))
            .map(|(block, row)| lines_of(&values[start(block, row)..][..cols]))
            .collect();
        for prefetch_steps in [1, 2, 7, 100] {
            let strides = [block_stride as isize, row_stride as isize];
            let mut ahead = PrefetchCursor::<f32>::in_blocks(values[offset..].as_ptr(), [blocks, rows, cols], strides)
                .in_steps(prefetch_steps);
            assert!(!ahead.is_empty());
            let asked = trace_prefetches(|| (0..prefetch_steps).for_each(|_| ahead.fetch()));
            let case = format!(
                "{blocks} × {rows} × {cols}, strides {strides:?}, from {offset} on in {prefetch_steps} prefetch_steps"
            );
            assert!(ahead.is_empty(), "{case}");
            assert_eq!(asked, expected.concat(), "{case}");
            assert!(trace_prefetches(|| ahead.fetch()).is_empty(), "{case}");
        }
    }

    #[test]
    fn the_lines_of_all_rows_are_asked_for_in_order() {
        for offset in [0, 7] {
            for [blocks, rows, cols] in [[1, 1, 1], [3, 1, 40], [2, 5, 16], [4, 3, 17], [1, 7, 900], [1, 1, 3000]] {
                // Whole lines deinterleave, where every row begins at the same place of one, and not.
                for strides in [[8000, 1024], [7000, 903]] {
                    check_blocks([blocks, rows, cols], strides, offset);
                }
            }
        }
    }

    #[test]
    fn of_a_matrix_the_contiguous_axis_is_asked_for() {
        let values = vec![0.0f32; 4000];
        let matrix = Matrix::row_major(&values, 7, 40, 50);
        let lines: Vec<usize> = (0..7).flat_map(|row| lines_of(matrix.row_slice(row))).collect();
        for matrix in [matrix, matrix.transposed()] {
            assert_eq!(trace_prefetches(|| PrefetchCursor::new(Some(matrix)).in_steps(1).fetch()), lines);
        }
        let dense = Matrix::row_major(&values, 7, 50, 50);
        assert_eq!(trace_prefetches(|| PrefetchCursor::new(Some(dense)).in_steps(1).fetch()), lines_of(&values[..350]));
        let neither = matrix.every_col(0, 2).transposed().every_col(0, 2);
        assert!(PrefetchCursor::new(Some(neither)).is_empty() && PrefetchCursor::<f32>::new(None).is_empty());
        assert!(PrefetchCursor::new(Some(matrix)).in_steps(0).is_empty());
    }

    #[test]
    fn a_product_asks_for_all_that_it_needs() {
        let (values, mut written_to) = (vec![0.0f32; 4000], vec![0.0f32; 200]);
        let out = SharedOutput::new(&mut written_to);
        let matrix = Some(Matrix::row_major(&values, 7, 16, 19));
        for (after, read, written) in
            [(matrix, None, false), (None, matrix, false), (None, None, true), (matrix, matrix, true)]
        {
            for prefetch_steps in [2, 9] {
                let write = if written {
                    PrefetchCursor::to_write(out, 5, [2, 3, 20], [100, 30])
                } else {
                    PrefetchCursor::default()
                };
                let mut beside = ExtraPrefetch { read: PrefetchCursor::new(read), write }.in_steps(prefetch_steps);
                let mut needed = PrefetchSchedule::new(after, prefetch_steps, &mut beside);
                assert!(!needed.is_empty());
                (0..prefetch_steps).for_each(|_| needed.fetch());
                assert!(needed.is_empty(), "in {prefetch_steps} prefetch_steps");
            }
        }
    }

    #[test]
    fn what_is_too_much_for_the_steps_is_not_asked_for() {
        let values = vec![0.0f32; 4000];
        let read = PrefetchCursor::new(Some(Matrix::row_major(&values, 1, 4000, 4000)));
        let mut beside = ExtraPrefetch { read, write: PrefetchCursor::default() }.in_steps(2);
        let mut needed = PrefetchSchedule::new(None, 2, &mut beside);
        (0..2).for_each(|_| needed.fetch());
        assert!(!needed.is_empty());
    }

    #[test]
    fn rows_in_panels_are_asked_for_and_others_are_not() {
        let values = vec![0.0f32; 4000];
        for prefetch_steps in [1, 5, 300] {
            let mut ahead =
                PrefetchCursor::in_panels(Rows::in_runs(&values, [12, 70], 32, 32, 600)).in_steps(prefetch_steps);
            assert!(!ahead.is_empty());
            (0..prefetch_steps).for_each(|_| ahead.fetch());
            assert!(ahead.is_empty(), "in {prefetch_steps} prefetch_steps");
            let rows = Rows::of(Matrix::row_major(&values, 12, 70, 80)).expect("contiguous rows");
            assert!(PrefetchCursor::in_panels(rows).is_empty());
        }
    }
}
