//! The expansion `y_i = t_i U_iᵀ`, which sums over the whole rank.

use super::layout::PanelLayout;
use crate::cpu::gemm::{Finish, grouped_gemm};
use crate::cpu::{Matrix, Output, Scalar, ThreadTeam};
use burn_flex::FlexTensor;

/// Writes `y [tokens, b p]`, and what follows, from the panels `t` and `u [b, p, r]`.
///
/// # Panics
///
/// If an operand is too short.
pub(super) fn expand<E: Scalar>(
    team: &ThreadTeam,
    tokens: usize,
    t: &[E],
    layout: PanelLayout,
    u: &FlexTensor,
    finish: Finish<'_, E>,
    y: Output<'_, E>,
) {
    let [blocks, p, r] = u.layout().shape().dims();
    let rows = |block: usize| layout.rows(t, block, [tokens, r]);
    let factor = |block: usize| Matrix::of(u, block).transposed();
    grouped_gemm(team, [blocks, tokens, r, p], rows, factor, finish, y);
}
