//! Sums over the tokens of what two operands hold of each: the gradient of a factor.

use super::blocks::{Group, group_cols, run_terms, tasks_wanted};
use super::{Landing, Rows, SharedOutput, Target, competing_stride, shape, transpose};
use crate::cpu::{Crew, Matrix, Scalar, Slot, portions};
use pulp::Simd;

/// Rows of an output that are one task, in tiles.
const TILES: usize = 8;

/// `out_k = left_kᵀ right_k`, or what `landing` makes of it, of `blocks` pairs `[tokens, rows]` and `[tokens, cols]`, into
/// `[blocks, rows, cols]`.
///
/// A task turns some features of the left operand around, where they stay in its cache, and multiplies the right one by them, or some
/// of its columns where there are too few rows for the threads. So many tokens at a time that the terms of a tile stay in the
/// first-level cache.
///
/// Every element of `out` is written if there are tokens; what is added to must have been.
pub(crate) fn over_tokens<'a, E: Scalar>(
    crew: &Crew,
    [blocks, tokens, rows, cols]: [usize; 4],
    left: impl Fn(usize) -> Matrix<'a, E> + Sync,
    right: impl Fn(usize) -> Matrix<'a, E> + Sync,
    out: SharedOutput<'_, E>,
    landing: Landing<'_, E>,
) {
    let (_, tile_rows) = shape::<E>();
    if blocks * rows * cols == 0 {
        return;
    }
    let some = (TILES * tile_rows).min(rows);
    let of_rows = rows.div_ceil(some);
    let portion = run_terms(tokens).max(1);
    for start in (0..tokens).step_by(portion) {
        let tokens = portion.min(tokens - start);
        let group = group_cols::<E>(tokens, cols);
        let landing = if start == 0 { landing } else { Landing::AddTo };
        let groups = cols.div_ceil(group);
        let shares = tasks_wanted().div_ceil(2 * blocks * of_rows).min(groups).max(1);
        let share = groups.div_ceil(shares) * group;
        let of_cols = cols.div_ceil(share);
        crew.each(blocks * of_rows * of_cols, |task| {
            let (block, first) = (task / of_cols / of_rows, task / of_cols % of_rows * some);
            let column = task % of_cols * share;
            let cols_here = share.min(cols - column);
            let left = left(block).rows(start, tokens).cols(first, some.min(rows - first));
            let right = right(block).rows(start, tokens).cols(column, cols_here);
            let target = Target { out, offset: (block * rows + first) * cols + column, stride: cols, landing };
            E::with_buffer(Slot::Task, |buffer| {
                let [turned, panels] = portions(buffer, [left.cols * turned_stride::<E>(tokens), tokens * group]);
                let rows = pulp::Arch::new().dispatch(TurnAround { matrix: left, buffer: turned });
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

/// Writes the columns of `matrix` as rows, [far enough apart](turned_stride), into a buffer.
#[inline(always)]
pub(crate) fn turn_around<'a, S: Simd, E: Scalar>(matrix: Matrix<'_, E>, buffer: &'a mut [E]) -> Rows<'a, E> {
    let stride = turned_stride::<E>(matrix.rows);
    transpose::<S, E>(matrix, buffer, stride);
    Rows::in_runs(buffer, [matrix.cols, matrix.rows], stride, matrix.rows.max(1), 0)
}

/// Elements from one row to the next of a matrix [turned around](turn_around) that had so many rows: as many, and some more, as rows a
/// power of two apart would compete for the same few places of a cache.
pub(crate) fn turned_stride<E: Scalar>(rows: usize) -> usize {
    let (width, _) = shape::<E>();
    let padded = rows.next_multiple_of(width) + width;
    if competing_stride::<E>(padded) { padded + width } else { padded }
}

/// Some features of an operand.
struct TurnAround<'a, E: Scalar> {
    matrix: Matrix<'a, E>,
    buffer: &'a mut [E],
}

impl<'a, E: Scalar> pulp::WithSimd for TurnAround<'a, E> {
    type Output = Rows<'a, E>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Rows<'a, E> {
        turn_around::<S, E>(self.matrix, self.buffer)
    }
}
