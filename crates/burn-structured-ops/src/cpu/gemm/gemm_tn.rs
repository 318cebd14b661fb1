//! Sums over the tokens of what two operands hold of each: the gradient of a factor.

use super::grouped::{Group, kc, nc, tasks_wanted};
use super::{Epilogue, Rows, SharedOutput, Target, shape, stride_aliases_in_l1, transpose};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use pulp::Simd;

/// Rows of an output that are one task, in tiles.
const TILES: usize = 8;

/// `out_k = left_kᵀ right_k`, or what `epilogue` makes of it, of `blocks` pairs `[tokens, rows]` and `[tokens, cols]`, into
/// `[blocks, rows, cols]`.
///
/// A task turns some features of the left operand around, where they stay in its cache, and multiplies the right one by them, or some
/// of its columns where there are too few rows for the threads. So many tokens at a time that the terms of a tile stay in the
/// first-level cache.
///
/// Every element of `out` is written if there are tokens; what is added to must have been.
pub(crate) fn gemm_tn<'a, E: Scalar>(
    team: &ThreadTeam,
    [blocks, tokens, rows, cols]: [usize; 4],
    left: impl Fn(usize) -> Matrix<'a, E> + Sync,
    right: impl Fn(usize) -> Matrix<'a, E> + Sync,
    out: SharedOutput<'_, E>,
    epilogue: Epilogue<'_, E>,
) {
    let (_, mr) = shape::<E>();
    if blocks * rows * cols == 0 {
        return;
    }
    let some = (TILES * mr).min(rows);
    let of_rows = rows.div_ceil(some);
    let token_chunk = kc(tokens).max(1);
    for start in (0..tokens).step_by(token_chunk) {
        let tokens = token_chunk.min(tokens - start);
        let group = nc::<E>(tokens, cols);
        let epilogue = if start == 0 { epilogue } else { Epilogue::Accumulate };
        let groups = cols.div_ceil(group);
        let shares = tasks_wanted().div_ceil(2 * blocks * of_rows).min(groups).max(1);
        let share = groups.div_ceil(shares) * group;
        let of_cols = cols.div_ceil(share);
        team.parallel_for(blocks * of_rows * of_cols, |task| {
            let (block, first) = (task / of_cols / of_rows, task / of_cols % of_rows * some);
            let column = task % of_cols * share;
            let cols_here = share.min(cols - column);
            let left = left(block).rows(start, tokens).cols(first, some.min(rows - first));
            let right = right(block).rows(start, tokens).cols(column, cols_here);
            let target = Target { out, offset: (block * rows + first) * cols + column, stride: cols, epilogue };
            E::with_buffer(Workspace::Task, |buffer| {
                let [transposed, panels] =
                    split_aligned(buffer, [left.cols * transposed_stride::<E>(tokens), tokens * group]);
                let rows = pulp::Arch::new().dispatch(TransposeInto { matrix: left, buffer: transposed });
                for first in (0..cols_here).step_by(group) {
                    let columns = |first: usize| right.cols(first, group.min(cols_here - first));
                    let ahead = (first + group < cols_here).then(|| columns(first + group));
                    let (factor, panels) = (columns(first), &mut *panels);
                    let target = target.cols(first, factor.cols);
                    pulp::Arch::new().dispatch(Group { rows, factor, run: tokens, target, ahead, panels });
                }
            });
        });
    }
}

/// Writes the columns of `matrix` as rows, [far enough deinterleave](transposed_stride), into a buffer.
#[inline(always)]
pub(crate) fn transpose_into<'a, S: Simd, E: Scalar>(matrix: Matrix<'_, E>, buffer: &'a mut [E]) -> Rows<'a, E> {
    let stride = transposed_stride::<E>(matrix.rows);
    transpose::<S, E>(matrix, buffer, stride);
    Rows::in_runs(buffer, [matrix.cols, matrix.rows], stride, matrix.rows.max(1), 0)
}

/// Elements from one row to the next of a matrix [transposed around](transpose_into) that had so many rows: as many, and some more, as rows a
/// power of two deinterleave would compete for the same few places of a cache.
pub(crate) fn transposed_stride<E: Scalar>(rows: usize) -> usize {
    let (nr, _) = shape::<E>();
    let padded = rows.next_multiple_of(nr) + nr;
    if stride_aliases_in_l1::<E>(padded) { padded + nr } else { padded }
}

/// Some features of an operand.
struct TransposeInto<'a, E: Scalar> {
    matrix: Matrix<'a, E>,
    buffer: &'a mut [E],
}

impl<'a, E: Scalar> pulp::WithSimd for TransposeInto<'a, E> {
    type Output = Rows<'a, E>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Rows<'a, E> {
        transpose_into::<S, E>(self.matrix, self.buffer)
    }
}
