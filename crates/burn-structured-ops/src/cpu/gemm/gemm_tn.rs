//! The product over the tokens, `leftᵀ · right`: the gradient of a factor.

use super::blocking::{kc, nc, tasks_wanted};
use super::grouped::blocked_gemm;
use super::transpose::Transpose;
use super::{Epilogue, Rows, Target, shape, stride_aliases_in_l1};
use crate::cpu::{Matrix, Output, Scalar, ThreadTeam, Workspace, alloc_uninit_with, split_aligned};

/// Rows of an output that are one task, in tiles.
pub(crate) const TASK_TILES: usize = 8;

/// `out_k = left_kᵀ right_k` for `blocks` pairs of `[tokens, rows]` and `[tokens, cols]`, into `[blocks, rows, cols]`; added to what is
/// there if `accumulate`.
///
/// A task transposes some columns of the left operand, where they stay in its cache, and multiplies the right one by them, or some
/// columns of it where there are too few rows for the threads.
///
/// # Safety
///
/// If `accumulate`, the elements of `out` must be initialised. Without tokens, nothing is written.
///
/// # Panics
///
/// If an operand is not of these sizes, or `out` is too short.
pub(crate) unsafe fn gemm_tn<'a, E: Scalar>(
    team: &ThreadTeam,
    [blocks, tokens, rows, cols]: [usize; 4],
    left: impl Fn(usize) -> Matrix<'a, E> + Sync,
    right: impl Fn(usize) -> Matrix<'a, E> + Sync,
    mut out: Output<'_, E>,
    accumulate: bool,
) {
    let out = out.share();
    let (_, mr) = shape::<E>();
    if blocks * tokens * rows * cols == 0 {
        return;
    }
    let task_rows = (TASK_TILES * mr).min(rows);
    let row_tasks = rows.div_ceil(task_rows);
    let kc = kc(tokens);
    let nc = nc::<E>(kc, cols);
    let groups = cols.div_ceil(nc);
    let shares = tasks_wanted().div_ceil(2 * blocks * row_tasks).min(groups).max(1);
    let task_cols = groups.div_ceil(shares) * nc;
    let col_tasks = cols.div_ceil(task_cols);
    team.parallel_for(blocks * row_tasks * col_tasks, |task| {
        let (block, row, column) =
            (task / col_tasks / row_tasks, task / col_tasks % row_tasks * task_rows, task % col_tasks * task_cols);
        let left = left(block).cols(row, task_rows.min(rows - row));
        let right = right(block).cols(column, task_cols.min(cols - column));
        assert!(left.rows == tokens && right.rows == tokens, "a row for every token");
        let offset = (block * rows + row) * cols + column;
        for start in (0..tokens).step_by(kc) {
            let (left, right) = (left.rows(start, kc.min(tokens - start)), right.rows(start, kc.min(tokens - start)));
            let epilogue = if accumulate || start > 0 { Epilogue::Accumulate } else { Epilogue::Store };
            E::with_buffer(Workspace::Task, |buffer| {
                let lengths = [left.cols * transposed_stride::<E>(left.rows), left.rows * nc];
                let [transposed, panels] = split_aligned(buffer, lengths);
                let rows = transpose_into(left, transposed);
                for first in (0..right.cols).step_by(nc) {
                    let columns = |first: usize| right.cols(first, nc.min(right.cols - first));
                    let (factor, next) = (columns(first), (first + nc < right.cols).then(|| columns(first + nc)));
                    // SAFETY: no other task has these rows and columns; what is accumulated to is initialised, as the caller says, or the first
                    // tokens have been stored there.
                    let target = unsafe { Target::new(out, offset + first, [rows.count, factor.cols], cols, epilogue) };
                    blocked_gemm(rows, factor, target, next, panels);
                }
            });
        }
    });
}

/// Writes the columns of `matrix` as rows that are [`transposed_stride`] apart into a buffer.
pub(crate) fn transpose_into<'a, E: Scalar>(matrix: Matrix<'_, E>, buffer: &'a mut [E]) -> Rows<'a, E> {
    let stride = transposed_stride::<E>(matrix.rows);
    transpose_to(matrix, buffer, stride);
    Rows::in_runs(buffer, [matrix.cols, matrix.rows], stride, matrix.rows.max(1), 0)
}

/// Writes the columns of `matrix` as rows that are `stride` apart.
///
/// # Panics
///
/// If `out` is too short.
pub(crate) fn transpose_to<E: Scalar>(matrix: Matrix<'_, E>, out: &mut [E], stride: usize) {
    pulp::Arch::new().dispatch(Transpose { matrix, out, stride });
}

/// Elements between rows of `depth` elements such that they do not alias in the L1 cache.
pub(crate) fn transposed_stride<E: Scalar>(depth: usize) -> usize {
    let (nr, _) = shape::<E>();
    let padded = depth.next_multiple_of(nr) + nr;
    if stride_aliases_in_l1::<E>(padded) { padded + nr } else { padded }
}

/// [`gemm_tn`] as a vector `[blocks, rows, cols]`; zeros without tokens.
///
/// # Panics
///
/// If an operand is not of these sizes.
pub(crate) fn product_over_tokens<'a, E: Scalar>(
    sizes: [usize; 4],
    left: impl Fn(usize) -> Matrix<'a, E> + Sync,
    right: impl Fn(usize) -> Matrix<'a, E> + Sync,
) -> Vec<E> {
    let [blocks, tokens, rows, cols] = sizes;
    if tokens == 0 {
        return vec![E::ZERO; blocks * rows * cols];
    }
    // SAFETY: there are tokens, so every element is written.
    unsafe {
        alloc_uninit_with(blocks * rows * cols, |out| {
            gemm_tn(&ThreadTeam::default(), sizes, left, right, out, false);
        })
    }
}
