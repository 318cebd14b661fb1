//! The product of a few tokens with a block-diagonal matrix, or with one dense block.

use super::{DotRows, RowChunks};
use crate::cpu::gemm::{Epilogue, Target};
use crate::cpu::{Matrix, Output, Scalar, ThreadTeam};
use burn_flex::FlexTensor;

/// `y = [x_0 W_0ᵀ | x_1 W_1ᵀ | …] + bias` for `x [tokens, blocks · q]` and `w [blocks, p, q]` or `[p, q]`; every block is read once.
///
/// # Panics
///
/// If the rows of `x` or of `w` are not contiguous, or a size does not fit the others.
pub(crate) fn block_diagonal_gemv<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    bias: Option<&[E]>,
    mut y: Output<'_, E>,
) {
    let y = y.share();
    let chunks = RowChunks::of(w);
    let [p, q] = chunks.block;
    let m = y.len() / x.rows;
    team.parallel_for(chunks.count, |task| {
        let (block, place) = chunks.place(task);
        let (factor, column) = (chunks.get(task), block * p + place * chunks.rows);
        let epilogue = Epilogue::bias(bias.map(|bias| &bias[column..][..factor.rows]));
        // SAFETY: no other task has these columns.
        let y = unsafe { Target::new(y, column, [x.rows, factor.rows], m, epilogue) };
        let x = x.cols(block * q, q);
        let (t, t_stride) = (x.storage_from_first(), x.row_stride as usize);
        pulp::Arch::new().dispatch(DotRows { t, t_stride, factor, next: chunks.after(task), y });
    });
}
