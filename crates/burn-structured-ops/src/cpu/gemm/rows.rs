//! The left operand of a product out of panels.

use crate::cpu::{Matrix, Scalar};

/// The left operand: `count` rows of `terms` elements, which lie in contiguous runs.
///
/// Term `k` of row `i` is `data[i · row_stride + k / run · run_stride + k % run]`. An ordinary matrix is a single run; the
/// result of one product, left in panels, is several.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, E> {
    pub(super) data: &'a [E],
    pub count: usize,
    pub(super) terms: usize,
    pub(super) row_stride: usize,
    pub(super) run: usize,
    pub(super) run_stride: usize,
}

impl<'a, E: Scalar> Rows<'a, E> {
    /// The rows of a matrix, or `None` unless each is contiguous and follows the one before.
    pub fn of(matrix: Matrix<'a, E>) -> Option<Self> {
        let row_stride = usize::try_from(matrix.row_stride).ok()?;
        if matrix.col_stride != 1 && matrix.cols > 1 {
            return None;
        }
        let data = matrix.onwards();
        Some(Self { data, count: matrix.rows, terms: matrix.cols, row_stride, run: matrix.cols.max(1), run_stride: 0 })
    }

    /// Rows in runs of `run` terms that are `run_stride` deinterleave.
    ///
    /// # Panics
    ///
    /// If they do not lie within `data`, or runs overlap.
    pub fn in_runs(
        data: &'a [E],
        [count, terms]: [usize; 2],
        row_stride: usize,
        run: usize,
        run_stride: usize,
    ) -> Self {
        assert!(run > 0 && (terms <= run || run_stride >= run), "runs one after the other");
        if count > 0 && terms > 0 {
            let last = terms - 1;
            assert!(
                (count - 1) * row_stride + last / run * run_stride + last % run < data.len(),
                "rows within their data"
            );
        }
        Self { data, count, terms, row_stride, run, run_stride }
    }

    /// Rows `start .. start + count`.
    pub fn range(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.count);
        Self { data: self.data.get(start * self.row_stride..).unwrap_or_default(), count, ..self }
    }

    /// Whether the terms of each row are neighbours.
    pub fn is_single_run(self) -> bool {
        self.run >= self.terms
    }

    /// Terms `start .. start + terms` of rows that are a single run.
    pub fn terms(self, start: usize, terms: usize) -> Self {
        assert!(start + terms <= self.terms && self.is_single_run());
        Self { data: self.data.get(start..).unwrap_or_default(), terms, ..self }
    }
}
