//! Products of up to 8 tokens: bound by reading the factor, so it is read once, in memory order and without packing.
//!
//! A few rows are read side by side, and all tokens use them while they are in registers.

mod axpy;
mod block_diagonal;
mod dot;

pub(crate) use axpy::AxpyRows;
pub(crate) use block_diagonal::block_diagonal_gemv;
pub(crate) use dot::DotRows;

use crate::cpu::{Matrix, Scalar};
use burn_flex::FlexTensor;

/// Elements of a factor for one task at least: less is not worth handing out.
const TASK_ELEMENTS: usize = 1 << 15;
/// Tasks of a stage at most, for each thread.
const TASKS_PER_THREAD: usize = 4;
/// Rows read side by side.
const ROWS: usize = 4;
/// Tokens that share what is loaded of a row, if there are so many.
const PAIR: usize = 2;

/// Bytes between the end of the rows that are read and what is prefetched meanwhile: about as long as memory takes to answer.
const PREFETCH_DISTANCE: usize = 2 << 10;

/// What to prefetch, in memory order, while the [`ROWS`] rows before `row` are read: as much, after rows from `row` on and
/// [`PREFETCH_DISTANCE`], or where `factor` ends before that, of `next`, the chunk that the thread is likely to take after it.
#[inline(always)]
fn upcoming<E: Scalar>(factor: Matrix<'_, E>, next: Option<Matrix<'_, E>>, row: usize) -> *const E {
    let (stride, distance) = (factor.row_stride.unsigned_abs(), PREFETCH_DISTANCE / size_of::<E>());
    let (start, end) = (row * stride + distance, factor.rows * stride);
    match next {
        Some(next) if start >= end => next.row_slice(0).as_ptr().wrapping_add(start - end),
        _ => factor.row_slice(0).as_ptr().wrapping_add(start),
    }
}

/// Whether a factor can be read in place: its last axis is contiguous.
pub(crate) fn reads(factor: &FlexTensor) -> bool {
    factor.layout().strides().last() == Some(&1)
}

/// Chunks of rows of a factor `[blocks, rows, cols]` or `[rows, cols]`: the tasks of a stage.
#[derive(Clone, Copy)]
pub(crate) struct RowChunks<'a> {
    factor: &'a FlexTensor,
    /// Rows and columns of a block.
    pub block: [usize; 2],
    /// Rows of a chunk, the last of a block excepted.
    pub rows: usize,
    /// Chunks of a block.
    pub per_block: usize,
    /// Chunks of all blocks.
    pub count: usize,
}

impl<'a> RowChunks<'a> {
    pub fn of(factor: &'a FlexTensor) -> Self {
        Self::at_most(factor, usize::MAX)
    }

    /// So many of a block at most.
    pub fn at_most(factor: &'a FlexTensor, most: usize) -> Self {
        let shape = factor.layout().shape();
        let (blocks, block) = match shape.num_dims() {
            2 => (1, shape.dims()),
            _ => (shape[0], [shape[1], shape[2]]),
        };
        let [rows, cols] = block;
        let tasks = (blocks * rows * cols / TASK_ELEMENTS).min(TASKS_PER_THREAD * rayon::current_num_threads());
        let wanted = tasks.div_ceil(blocks).min(rows.div_ceil(ROWS)).min(most).max(1);
        let rows_of_chunk = rows.div_ceil(wanted).max(1);
        let per_block = rows.div_ceil(rows_of_chunk);
        Self { factor, block, rows: rows_of_chunk, per_block, count: blocks * per_block }
    }

    /// The block of a chunk, and its place in the block.
    pub fn place(self, chunk: usize) -> (usize, usize) {
        (chunk / self.per_block, chunk % self.per_block)
    }

    /// The rows of a chunk.
    pub fn get<E: Scalar>(self, chunk: usize) -> Matrix<'a, E> {
        let (block, place) = self.place(chunk);
        let factor = Matrix::of(self.factor, block);
        let first = place * self.rows;
        factor.rows(first, self.rows.min(factor.rows - first))
    }

    /// The chunk that the thread of `chunk` is likely to take next.
    pub fn after<E: Scalar>(self, chunk: usize) -> Option<Matrix<'a, E>> {
        let next = chunk + rayon::current_num_threads();
        (next < self.count).then(|| self.get(next))
    }
}
