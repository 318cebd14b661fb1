//! Reading factors once, in the order they lie in: for a handful of tokens, whose products are bound by that.
//!
//! Nothing is packed. A few rows are read side by side, all tokens meet them while they are in registers, and what is read next is
//! asked for meanwhile.

mod axpy;
mod block_diagonal;
mod dot;
mod prefetch;

pub(crate) use axpy::SumRows;
pub(crate) use block_diagonal::block_diagonal_gemv;
pub(crate) use dot::dot_rows;

use prefetch::{Lines, StreamPrefetcher};

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

/// Whether a factor lies as these paths read it: the last axis as the contiguous one.
pub(crate) fn reads(factor: &FlexTensor) -> bool {
    factor.layout().strides().last() == Some(&1)
}

/// The runs of rows that the blocks of a factor `[blocks, rows, cols]`, or the one of `[rows, cols]`, are read in.
#[derive(Clone, Copy)]
pub(crate) struct RowChunks<'a> {
    factor: &'a FlexTensor,
    /// Rows and columns of a block.
    pub block: [usize; 2],
    /// Rows of a run, the last of a block excepted, …
    pub rows_of_run: usize,
    /// … and runs of a block.
    pub cuts: usize,
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
        let rows_of_run = rows.div_ceil(wanted);
        let cuts = rows.div_ceil(rows_of_run);
        Self { factor, block, rows_of_run, cuts, count: blocks * cuts }
    }

    /// The block of a run, and its place in the block.
    pub fn place(self, run: usize) -> (usize, usize) {
        (run / self.cuts, run % self.cuts)
    }

    /// The rows of a run, if there are so many.
    pub fn get<E: Scalar>(self, run: usize) -> Option<Matrix<'a, E>> {
        let (block, cut) = self.place(run);
        (run < self.count).then(|| {
            let factor = Matrix::of(self.factor, block);
            let first = cut * self.rows_of_run;
            factor.rows(first, self.rows_of_run.min(factor.rows - first))
        })
    }
}
