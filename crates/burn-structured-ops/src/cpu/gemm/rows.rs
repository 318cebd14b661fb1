//! The left operand of a product.

use crate::cpu::{Matrix, Scalar};

/// `count` rows of `depth` elements, in one contiguous run each or in several.
///
/// Element `k` of row `i` is `data[i · row_stride + k / run · run_stride + k % run]`. The rows of an ordinary matrix are one run; those
/// of a product that was left in panels are as many as it has panels.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, E> {
    data: &'a [E],
    pub count: usize,
    pub depth: usize,
    pub(super) row_stride: usize,
    run: usize,
    run_stride: usize,
}

impl<'a, E: Scalar> Rows<'a, E> {
    /// The rows of a matrix, or `None` unless each is contiguous and no stride is negative.
    pub fn of(matrix: Matrix<'a, E>) -> Option<Self> {
        matrix.has_contiguous_rows().then(|| Self {
            data: matrix.storage_from_first(),
            count: matrix.rows,
            depth: matrix.cols,
            row_stride: matrix.row_stride as usize,
            run: matrix.cols.max(1),
            run_stride: 0,
        })
    }

    /// Rows in runs of `run` elements that are `run_stride` apart.
    ///
    /// # Panics
    ///
    /// If they do not lie within `data`, or runs overlap.
    pub fn in_runs(
        data: &'a [E],
        [count, depth]: [usize; 2],
        row_stride: usize,
        run: usize,
        run_stride: usize,
    ) -> Self {
        assert!(run > 0 && (depth <= run || run_stride >= run), "runs one after the other");
        if count > 0 && depth > 0 {
            let last = depth - 1;
            let end = (count - 1) * row_stride + last / run * run_stride + last % run;
            assert!(end < data.len(), "rows within their data");
        }
        Self { data, count, depth, row_stride, run, run_stride }
    }

    /// Rows `start .. start + count`.
    pub fn range(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.count);
        Self { data: self.data.get(start * self.row_stride..).unwrap_or_default(), count, ..self }
    }

    /// Whether each row is contiguous.
    pub fn is_single_run(self) -> bool {
        self.run >= self.depth
    }

    /// Elements `start .. start + depth` of contiguous rows.
    pub fn depths(self, start: usize, depth: usize) -> Self {
        assert!(start + depth <= self.depth && self.is_single_run());
        Self { data: self.data.get(start..).unwrap_or_default(), depth, ..self }
    }

    /// The first depth of every run, where the first row has it, and the run's depth.
    #[inline(always)]
    pub(super) fn runs(self) -> impl Iterator<Item = (usize, *const E, usize)> {
        let Self { data, depth, run, run_stride, .. } = self;
        let start = data.as_ptr();
        (0..depth.div_ceil(run))
            .map(move |index| (index * run, start.wrapping_add(index * run_stride), run.min(depth - index * run)))
    }
}
