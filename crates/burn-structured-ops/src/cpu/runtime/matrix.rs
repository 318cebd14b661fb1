//! Views of strided matrices.

use crate::cpu::Scalar;
use burn_flex::FlexTensor;

/// A read-only matrix with arbitrary (also zero or negative) strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, E> {
    storage: &'a [E],
    /// Index in `storage` of element `(0, 0)`.
    offset: isize,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: isize,
    pub col_stride: isize,
}

impl<'a, E: Scalar> Matrix<'a, E> {
    /// The last two axes of a tensor, at index `block` of the axis before them (0 for a matrix).
    pub fn of(tensor: &'a FlexTensor, block: usize) -> Self {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        let rank = shape.num_dims();
        let mut offset = layout.start_offset() as isize;
        if rank == 3 {
            assert!(block < shape[0], "block {block} of {}", shape[0]);
            offset += block as isize * strides[0];
        }
        Self::new(
            tensor.storage::<E>(),
            offset,
            [shape[rank - 2], shape[rank - 1]],
            [strides[rank - 2], strides[rank - 1]],
        )
    }

    /// The features `[tokens, features]` of one head of a tensor `[batch, tokens, heads, features]`.
    pub fn of_head(tensor: &'a FlexTensor, batch: usize, head: usize) -> Self {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        assert!(shape.num_dims() == 4 && batch < shape[0] && head < shape[2], "head {head} of {batch} in {shape:?}");
        let offset = layout.start_offset() as isize + batch as isize * strides[0] + head as isize * strides[2];
        Self::new(tensor.storage::<E>(), offset, [shape[1], shape[3]], [strides[1], strides[3]])
    }

    /// A matrix in a slice, row by row.
    pub fn row_major(storage: &'a [E], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self::new(storage, 0, [rows, cols], [row_stride as isize, 1])
    }

    fn new(storage: &'a [E], offset: isize, [rows, cols]: [usize; 2], [row_stride, col_stride]: [isize; 2]) -> Self {
        let matrix = Self { storage, offset, rows, cols, row_stride, col_stride };
        if rows > 0 && cols > 0 {
            let (down, across) = ((rows - 1) as isize * row_stride, (cols - 1) as isize * col_stride);
            let first = offset + down.min(0) + across.min(0);
            let last = offset + down.max(0) + across.max(0);
            assert!(first >= 0 && (last as usize) < storage.len(), "a matrix must lie within its storage");
        }
        matrix
    }

    /// Element `(row, col)`.
    #[inline(always)]
    pub fn at(self, row: usize, col: usize) -> E {
        assert!(row < self.rows && col < self.cols);
        self.storage[(self.offset + row as isize * self.row_stride + col as isize * self.col_stride) as usize]
    }

    /// The storage from element `(0, 0)` on.
    pub fn storage_from_first(self) -> &'a [E] {
        if self.rows == 0 || self.cols == 0 { &[] } else { &self.storage[self.offset as usize..] }
    }

    /// Whether the elements of each row are contiguous, and the rows do not run backwards.
    pub fn has_contiguous_rows(self) -> bool {
        (self.col_stride == 1 || self.cols <= 1) && self.row_stride >= 0
    }

    /// A row, whose elements must be contiguous.
    #[inline(always)]
    pub fn row_slice(self, row: usize) -> &'a [E] {
        assert!(row < self.rows && (self.col_stride == 1 || self.cols <= 1));
        &self.storage[(self.offset + row as isize * self.row_stride) as usize..][..self.cols]
    }

    /// The storage from element `(row, col)` on, of a matrix whose columns are contiguous.
    #[inline(always)]
    pub fn storage_from(self, row: usize, col: usize) -> &'a [E] {
        assert!(row < self.rows && col < self.cols && self.row_stride == 1);
        &self.storage[(self.offset + row as isize + col as isize * self.col_stride) as usize..]
    }

    /// Rows `start .. start + rows`.
    pub fn rows(self, start: usize, rows: usize) -> Self {
        assert!(start + rows <= self.rows);
        Self { offset: self.offset + start as isize * self.row_stride, rows, ..self }
    }

    /// Columns `start .. start + cols`.
    pub fn cols(self, start: usize, cols: usize) -> Self {
        assert!(start + cols <= self.cols);
        Self { offset: self.offset + start as isize * self.col_stride, cols, ..self }
    }

    /// Columns `start`, `start + step`, ….
    #[cfg(test)]
    pub fn every_col(self, start: usize, step: usize) -> Self {
        assert!(start < self.cols && step > 0);
        Self {
            offset: self.offset + start as isize * self.col_stride,
            cols: (self.cols - start).div_ceil(step),
            col_stride: self.col_stride * step as isize,
            ..self
        }
    }

    /// Writes the lower triangle of a square matrix column by column and leaves the rest of `out` as it is.
    #[cfg(feature = "faer")]
    pub fn copy_lower_by_columns(self, out: &mut [E]) {
        // Tiles that stay in cache, because either the matrix or `out` is read across its rows.
        const TILE: usize = 16;
        let n = self.rows;
        assert!(self.cols == n && out.len() == n * n, "the triangle of a square matrix");
        for first_row in (0..n).step_by(TILE) {
            for first_col in (0..=first_row).step_by(TILE) {
                for col in first_col..(first_col + TILE).min(n) {
                    let start = self.offset + col as isize * self.col_stride;
                    for row in first_row.max(col)..(first_row + TILE).min(n) {
                        out[col * n + row] = self.storage[(start + row as isize * self.row_stride) as usize];
                    }
                }
            }
        }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}
