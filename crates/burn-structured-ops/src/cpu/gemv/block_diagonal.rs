//! Rows of one block after the other times their part of a few vectors.

use super::{RowChunks, dot_rows};
use crate::cpu::gemm::SharedOutput;
use crate::cpu::{Matrix, Scalar, ThreadTeam};
use burn_flex::FlexTensor;
use pulp::Simd;

/// `y = [x_0 W_0ᵀ | x_1 W_1ᵀ | …] + bias` with the blocks of `w [blocks, p, q]`, or the one of `[p, q]`, every one read once.
///
/// # Safety
///
/// Nothing else may access `y` meanwhile.
///
/// # Panics
///
/// If the elements of a row of `x` or of `w` are no neighbours, or a size does not fit the others.
pub(crate) unsafe fn block_diagonal_gemv<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let (runs, threads) = (RowChunks::of(w), rayon::current_num_threads());
    let [p, q] = runs.block;
    team.parallel_for(runs.count, |task| {
        let (block, cut) = runs.place(task);
        let factor = runs.get(task).expect("a run of the factor");
        let (x, column) = (x.cols(block * q, q), block * p + cut * runs.rows_of_run);
        let bias = bias.map(|bias| &bias[column..][..factor.rows]);
        pulp::Arch::new().dispatch(SomeRows { x, factor, next: runs.get(task + threads), bias, y, column });
    });
}

/// Some rows of a block for all tokens; nothing else has their columns of `y`.
struct SomeRows<'a, E: Scalar> {
    x: Matrix<'a, E>,
    factor: Matrix<'a, E>,
    next: Option<Matrix<'a, E>>,
    bias: Option<&'a [E]>,
    y: SharedOutput<'a, E>,
    column: usize,
}

impl<E: Scalar> pulp::WithSimd for SomeRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, factor, next, bias, y, column } = self;
        let (tokens, stride) = (x.rows, y.len() / x.rows);
        // SAFETY: no other task has these columns.
        unsafe {
            dot_rows(simd, tokens, x.onwards(), x.row_stride as usize, factor, next, bias, y, column, stride);
        }
    }
}
