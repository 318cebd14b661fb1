//! The product of a few tokens with a block-diagonal matrix, or with one dense block.

use super::{DotRows, RowChunks};
use crate::cpu::gemm::{Finish, Target};
use crate::cpu::{Matrix, Output, Scalar, ThreadTeam};
use burn_flex::FlexTensor;

/// `y = [x_0 W_0ᵀ | x_1 W_1ᵀ | …]`, and what follows, for `x [tokens, blocks · q]` and `w [blocks, p, q]` or `[p, q]`; every block is read once.
///
/// # Panics
///
/// If the rows of `x` or of `w` are not contiguous, or a size does not fit the others.
pub(crate) fn block_diagonal_gemv<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    finish: Finish<'_, E>,
    mut y: Output<'_, E>,
) {
    let y = y.share();
    let chunks = RowChunks::of(w);
    let [p, q] = chunks.block;
    let m = y.len() / x.rows;
    team.parallel_for(chunks.count, |task| {
        let (block, place) = chunks.place(task);
        let (factor, column) = (chunks.get(task), block * p + place * chunks.rows);
        let epilogue = finish.epilogue(column, factor.rows);
        // SAFETY: no other task has these columns.
        let target = unsafe { Target::new(y, column, [x.rows, factor.rows], m, epilogue) };
        let x = x.cols(block * q, q);
        let (t, t_stride) = (x.storage_from_first(), x.row_stride as usize);
        pulp::Arch::new().dispatch(DotRows { t, t_stride, factor, next: chunks.after(task), y: target });
        // SAFETY: the product has just been stored.
        unsafe { target.finish(finish, [0, column]) };
    });
}
