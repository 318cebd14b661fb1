//! The stages one by one, over all tokens: the `Staged` strategy, and gradients of some factors only.

use super::coupling::{Couplings, couple_panel, coupling_gradient_panel, pack_rows};
use super::layout::{PanelRows, PanelTarget};
use super::{into_token_major, token_major};
use crate::cpu::gemm::{Finish, Rows, grouped_product, product_over_tokens, shape};
use crate::cpu::{
    Matrix, Scalar, SharedOutput, ThreadTeam, Workspace, contiguous, dense_slice, split_aligned, with_rows,
};
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// Tokens of a task of the coupling.
const TOKENS: usize = 64;

/// `z_j = x_j F_j`: `x [tokens, b q]`, `factor [b, q, r]` → `[b, tokens, r]`.
pub(super) fn project<E: Scalar>(x: FlexTensor, factor: &FlexTensor) -> FlexTensor {
    let [tokens, _] = x.layout().shape().dims();
    let [blocks, q, r] = factor.layout().shape().dims();
    let x = with_rows::<E>(x);
    let x = Rows::of(Matrix::<E>::of(&x, 0)).expect("contiguous rows");
    let (x, factor) = (|j: usize| x.depths(j * q, q), |j: usize| Matrix::of(factor, j));
    token_major(grouped_product([blocks, tokens, q, r], x, factor, Finish::bias(None)), [blocks, tokens, r])
}

/// `y_i = t_i F_iᵀ`, and what follows: `t [b, tokens, r]`, `factor [b, p, r]` → `[tokens, b p]`.
pub(super) fn expand<E: Scalar>(t: FlexTensor, factor: &FlexTensor, finish: Finish<'_, E>) -> FlexTensor {
    let [blocks, p, r] = factor.layout().shape().dims();
    let [_, tokens, _] = t.layout().shape().dims();
    let t = into_token_major(t);
    let t = dense_slice::<E>(&t);
    let rows = |i: usize| Rows::in_runs(&t[(i * r).min(t.len())..], [tokens, r], blocks * r, r.max(1), 0);
    let factor = |i: usize| Matrix::of(factor, i).transposed();
    contiguous(grouped_product([blocks, tokens, r, p], rows, factor, finish), Shape::new([tokens, blocks * p]))
}

/// `dF_j = x_jᵀ z_j`: `x [tokens, b q]`, `z [b, tokens, r]` → `[b, q, r]`.
pub(super) fn factor_gradient<E: Scalar>(x: &FlexTensor, z: &FlexTensor) -> FlexTensor {
    let [tokens, n] = x.layout().shape().dims();
    let [blocks, _, r] = z.layout().shape().dims();
    let q = n / blocks;
    let (x, z) = (|j: usize| Matrix::<E>::of(x, 0).cols(j * q, q), |j: usize| Matrix::of(z, j));
    contiguous(product_over_tokens([blocks, tokens, q, r], x, z), Shape::new([blocks, q, r]))
}

/// `t_i = Σ_j s_ij ∘ z_j`; `s [b1, b2, r]` may be transposed.
pub(super) fn couple<E: Scalar>(z: FlexTensor, s: FlexTensor) -> FlexTensor {
    let [b1, b2, r] = s.layout().shape().dims();
    let [_, tokens, _] = z.layout().shape().dims();
    let s = Couplings::<E>::readable(s);
    let s = Couplings::of(&s);
    let z = into_token_major(z);
    let z = dense_slice::<E>(&z);
    let (nr, _) = shape::<E>();
    let mut t = vec![E::ZERO; tokens * b1 * r];
    let out = SharedOutput::new(&mut t);
    ThreadTeam::default().parallel_for(tokens.div_ceil(TOKENS), |task| {
        let start = task * TOKENS;
        let tokens = TOKENS.min(tokens - start);
        let z = Matrix::row_major(&z[start * b2 * r..], tokens * b2, r, r);
        // SAFETY: no other task has these tokens, and the output is initialised.
        let t = unsafe { out.slice(start * b1 * r, tokens * b1 * r) };
        E::with_buffer(Workspace::Task, |buffer| {
            let lengths = [b1 * b2 * nr, tokens * b2 * nr, tokens * b1 * nr];
            let [couplings, z_panel, t_panel] = split_aligned(buffer, lengths);
            for first in (0..r).step_by(nr) {
                let cols = nr.min(r - first);
                s.pack([b1, b2], first, cols, nr, couplings);
                pack_rows(z.cols(first, cols), nr, z_panel);
                let z = PanelRows::new(z_panel, [tokens, b2], [b2 * nr, nr], nr);
                let target = PanelTarget::of_slice(&mut *t_panel, [tokens, b1], [b1 * nr, nr], nr);
                couple_panel(z, couplings, target);
                for (t, panel) in t.chunks_exact_mut(r).zip(t_panel.chunks_exact(nr)) {
                    t[first..first + cols].copy_from_slice(&panel[..cols]);
                }
            }
        });
    });
    token_major(t, [b1, tokens, r])
}

/// `ds_ij = Σ_tokens dt_i ∘ z_j`.
pub(super) fn coupling_gradient<E: Scalar>(t_grad: FlexTensor, z: FlexTensor) -> FlexTensor {
    let [b1, tokens, r] = t_grad.layout().shape().dims();
    let [b2, _, _] = z.layout().shape().dims();
    let (t_grad, z) = (into_token_major(t_grad), into_token_major(z));
    let dt = Matrix::row_major(dense_slice::<E>(&t_grad), tokens * b1, r, r);
    let z = Matrix::row_major(dense_slice::<E>(&z), tokens * b2, r, r);
    let mut ds = vec![E::ZERO; b1 * b2 * r];
    let out = SharedOutput::new(&mut ds);
    let (nr, _) = shape::<E>();
    ThreadTeam::default().parallel_for(r.div_ceil(nr), |panel| {
        let (first, cols) = (panel * nr, nr.min(r - panel * nr));
        E::with_buffer(Workspace::Task, |buffer| {
            let lengths = [b1 * b2 * nr, TOKENS.min(tokens) * b1 * nr, TOKENS.min(tokens) * b2 * nr];
            let [gradient, dt_panel, z_panel] = split_aligned(buffer, lengths);
            gradient.fill(E::ZERO);
            for start in (0..tokens).step_by(TOKENS) {
                let here = TOKENS.min(tokens - start);
                pack_rows(dt.rows(start * b1, here * b1).cols(first, cols), nr, dt_panel);
                pack_rows(z.rows(start * b2, here * b2).cols(first, cols), nr, z_panel);
                let dt = PanelRows::new(dt_panel, [here, b1], [b1 * nr, nr], nr);
                let z = PanelRows::new(z_panel, [here, b2], [b2 * nr, nr], nr);
                coupling_gradient_panel(dt, z, gradient);
            }
            for (block, gradient) in gradient.chunks_exact(nr).enumerate() {
                // SAFETY: no other task has these components, and the output is initialised.
                unsafe { out.slice(block * r + first, cols) }.copy_from_slice(&gradient[..cols]);
            }
        });
    });
    contiguous(ds, Shape::new([b1, b2, r]))
}
