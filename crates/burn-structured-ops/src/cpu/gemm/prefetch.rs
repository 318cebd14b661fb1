//! Prefetching the next factor while this one is multiplied.
//!
//! Up to about a hundred tokens a factor is multiplied about as fast as it is loaded from memory, so loads have to overlap with
//! arithmetic. They are issued in equal parts: a core that issues many prefetches at once stalls until the first lines arrive.

use super::{Rows, nr};
use crate::cpu::runtime::prefetch::{HAS_PREFETCH, prefetch_line};
use crate::cpu::{LINE, Matrix, Scalar};
use pulp::Simd;

/// Depth of a tile between two prefetch steps: about a hundred cycles with 32 registers, two hundred with 16.
#[inline(always)]
pub(super) fn prefetch_interval<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 32 }
}

/// The rows of a matrix that are yet to be prefetched.
pub(super) struct PrefetchCursor<E> {
    row: *const E,
    row_stride: isize,
    row_bytes: usize,
    rows: usize,
    /// Bytes of the row that have been prefetched.
    at: usize,
    lines_per_step: usize,
}

impl<E: Scalar> PrefetchCursor<E> {
    /// The rows of a matrix, or its columns, whichever are contiguous, in steps of a product of `rows` rows of a depth with `cols` columns
    /// in tiles of `tile` rows.
    #[inline(always)]
    pub fn new<S: Simd>(matrix: Option<Matrix<'_, E>>, rows: Rows<'_, E>, tile: usize, cols: usize) -> Self {
        let steps = rows.count.div_ceil(tile)
            * cols.div_ceil(nr::<S, E>())
            * rows.runs().map(|(_, _, depth)| depth.div_ceil(prefetch_interval::<S>())).sum::<usize>();
        let matrix = matrix.map(|matrix| if matrix.col_stride == 1 { matrix } else { matrix.transposed() });
        let matrix = matrix.filter(|matrix| HAS_PREFETCH && steps > 0 && matrix.col_stride == 1 && matrix.rows > 0);
        let Some(matrix) = matrix else {
            return Self { row: std::ptr::null(), row_stride: 0, row_bytes: 0, rows: 0, at: 0, lines_per_step: 0 };
        };
        let row_bytes = matrix.cols * size_of::<E>();
        // A row that does not begin with a line may reach into one more.
        let lines = matrix.rows * (row_bytes + LINE - 1).div_ceil(LINE);
        Self {
            row: matrix.storage_from_first().as_ptr(),
            row_stride: matrix.row_stride,
            row_bytes,
            rows: matrix.rows,
            at: 0,
            lines_per_step: lines.div_ceil(steps),
        }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Prefetches the lines of one step.
    #[inline(always)]
    pub fn step(&mut self) {
        for _ in 0..self.lines_per_step {
            if self.rows == 0 {
                return;
            }
            let within_line = self.row.addr() % LINE;
            prefetch_line(self.row.wrapping_byte_sub(within_line).wrapping_byte_add(self.at));
            self.at += LINE;
            if self.at >= within_line + self.row_bytes {
                self.row = self.row.wrapping_offset(self.row_stride);
                self.rows -= 1;
                self.at = 0;
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;
    use crate::cpu::runtime::prefetch::trace::{lines_of, prefetched_by};

    #[derive(Clone, Copy)]
    struct Steps<'a>(Matrix<'a, f32>, Rows<'a, f32>);

    impl pulp::WithSimd for Steps<'_> {
        type Output = Vec<usize>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Vec<usize> {
            let mut cursor = PrefetchCursor::<f32>::new::<S>(Some(self.0), self.1, 6, 40);
            let steps = self.1.count.div_ceil(6)
                * 40usize.div_ceil(nr::<S, f32>())
                * self.1.depth.div_ceil(prefetch_interval::<S>());
            let lines = prefetched_by(|| (0..steps).for_each(|_| cursor.step()));
            assert!(cursor.is_empty(), "all lines in {steps} steps");
            lines
        }
    }

    #[test]
    fn cursor_prefetches_every_line_once_in_order() {
        let values = vec![0.0f32; 8000];
        for offset in [0, 7] {
            for (rows, cols, stride) in [(1, 1, 1), (5, 16, 16), (3, 17, 40), (7, 900, 903)] {
                let matrix = Matrix::row_major(&values[offset..], rows, cols, stride);
                let lines: Vec<usize> = (0..rows).flat_map(|row| lines_of(matrix.row_slice(row))).collect();
                for count in [1, 20] {
                    let left = Rows::of(Matrix::row_major(&values, count, 70, 80)).expect("contiguous rows");
                    for matrix in [matrix, matrix.transposed()] {
                        let case = format!("{rows} × {cols}, stride {stride}, offset {offset}, {count} rows");
                        assert_eq!(pulp::Arch::new().dispatch(Steps(matrix, left)), lines, "{case}");
                    }
                }
            }
        }
    }
}
