//! The stages one by one, over all tokens: what the backward pass is made of.

use super::coupling::{Couplings, couple_block, gradient_columns};
use super::{into_token_major, token_major};
use crate::cpu::{Matrix, Output, Scalar, Split, contiguous, dense_slice, fill_bias, multiply, vectorized};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Columns of `ds` summed in one pass over the tokens.
const GRADIENT_COLUMNS: usize = 4;

/// `z_j = x_j F_j`.
pub(super) fn project<E: Scalar>(x: &FlexTensor, factor: &FlexTensor) -> FlexTensor {
    let [tokens, _] = x.layout().shape().dims();
    let [blocks, q, r] = factor.layout().shape().dims();
    let x = Matrix::<E>::of(x, 0);
    let row = blocks * r;
    let mut z = vec![E::ZERO; tokens * row];
    let block = |out: &mut [E], x: Matrix<'_, E>, j: usize, parallelism| {
        multiply(&mut out[j * r..], row, Output::Store, x.cols(j * q, q), Matrix::of(factor, j), parallelism);
    };
    match Split::of(tokens) {
        Split::Tokens { tile } => z.par_chunks_mut((tile * row).max(1)).enumerate().for_each(|(index, z)| {
            let x = x.rows(index * tile, z.len() / row);
            (0..blocks).for_each(|j| block(z, x, j, gemm::Parallelism::None));
        }),
        Split::WithinBlocks => (0..blocks).for_each(|j| block(&mut z, x, j, gemm::Parallelism::Rayon(0))),
    }
    token_major(z, [blocks, tokens, r])
}

/// `t_i = Σ_j s_ij ∘ z_j`; `s` may be transposed.
pub(super) fn couple<E: Scalar>(z: FlexTensor, s: FlexTensor) -> FlexTensor {
    let [b1, b2, r] = s.layout().shape().dims();
    let [_, tokens, _] = z.layout().shape().dims();
    let s = Couplings::<E>::readable(s);
    let couplings = Couplings::of(&s);
    let z = into_token_major(z);
    let z = dense_slice::<E>(&z);
    let mut t = vec![E::ZERO; tokens * b1 * r];
    let tile = tokens.div_ceil(rayon::current_num_threads()).clamp(1, 64);
    t.par_chunks_mut((tile * b1 * r).max(1)).zip(z.par_chunks((tile * b2 * r).max(1))).for_each(|(t, z)| {
        vectorized(
            #[inline(always)]
            || {
                for i in 0..b1 {
                    couple_block(z, b2, r, couplings, i, &mut t[i * r..], b1 * r);
                }
            },
        );
    });
    token_major(t, [b1, tokens, r])
}

/// `y_i = t_i F_iᵀ + bias_i`.
pub(super) fn expand<E: Scalar>(t: FlexTensor, factor: &FlexTensor, bias: Option<&[E]>) -> FlexTensor {
    let [blocks, p, r] = factor.layout().shape().dims();
    let [_, tokens, _] = t.layout().shape().dims();
    let m = blocks * p;
    let t = into_token_major(t);
    let t = dense_slice::<E>(&t);
    let mut y = vec![E::ZERO; tokens * m];
    let block = |y: &mut [E], t: &[E], i: usize, mode, parallelism| {
        let t = Matrix::row_major(&t[i * r..], y.len() / m, r, blocks * r);
        multiply(&mut y[i * p..], m, mode, t, Matrix::of(factor, i).transposed(), parallelism);
    };
    match Split::of(tokens) {
        Split::Tokens { tile } => {
            y.par_chunks_mut((tile * m).max(1)).zip(t.par_chunks((tile * blocks * r).max(1))).for_each(|(y, t)| {
                let mode = fill_bias(y, bias);
                (0..blocks).for_each(|i| block(y, t, i, mode, gemm::Parallelism::None));
            })
        }
        Split::WithinBlocks => {
            let mode = fill_bias(&mut y, bias);
            (0..blocks).for_each(|i| block(&mut y, t, i, mode, gemm::Parallelism::Rayon(0)));
        }
    }
    contiguous(y, Shape::new([tokens, m]))
}

/// `ds_ij = Σ_tokens dt_i ∘ z_j`.
pub(super) fn coupling_gradient<E: Scalar>(t_grad: FlexTensor, z: FlexTensor) -> FlexTensor {
    let [b1, _, r] = t_grad.layout().shape().dims();
    let [b2, _, _] = z.layout().shape().dims();
    let (t_grad, z) = (into_token_major(t_grad), into_token_major(z));
    let (t_grad, z) = (dense_slice::<E>(&t_grad), dense_slice::<E>(&z));
    let mut ds = vec![E::ZERO; b1 * b2 * r];
    if !z.is_empty() && !t_grad.is_empty() {
        ds.par_chunks_mut(b2 * r).enumerate().for_each(|(i, ds)| {
            ds.par_chunks_mut(GRADIENT_COLUMNS * r).enumerate().for_each(|(group, ds)| {
                let j = group * GRADIENT_COLUMNS;
                vectorized(
                    #[inline(always)]
                    || {
                        if ds.len() == GRADIENT_COLUMNS * r {
                            gradient_columns::<E, GRADIENT_COLUMNS>(t_grad, b1, i, z, b2, j, r, ds);
                        } else {
                            for (column, ds) in ds.chunks_exact_mut(r).enumerate() {
                                gradient_columns::<E, 1>(t_grad, b1, i, z, b2, j + column, r, ds);
                            }
                        }
                    },
                );
            });
        });
    }
    contiguous(ds, Shape::new([b1, b2, r]))
}

/// `dF_j = x_jᵀ z_j`.
pub(super) fn factor_gradient<E: Scalar>(x: &FlexTensor, z: &FlexTensor) -> FlexTensor {
    let [_, n] = x.layout().shape().dims();
    let [blocks, _, r] = z.layout().shape().dims();
    let q = n / blocks;
    let x = Matrix::<E>::of(x, 0);
    let mut gradient = vec![E::ZERO; blocks * q * r];
    let block = |out: &mut [E], j: usize, parallelism| {
        let z = Matrix::of(z, j);
        multiply(out, r, Output::Store, x.cols(j * q, q).transposed(), z, parallelism);
    };
    if blocks >= rayon::current_num_threads() {
        let chunks = gradient.par_chunks_mut((q * r).max(1)).enumerate();
        chunks.for_each(|(j, out)| block(out, j, gemm::Parallelism::None));
    } else {
        let chunks = gradient.chunks_mut((q * r).max(1)).enumerate();
        chunks.for_each(|(j, out)| block(out, j, gemm::Parallelism::Rayon(0)));
    }
    contiguous(gradient, Shape::new([blocks, q, r]))
}
