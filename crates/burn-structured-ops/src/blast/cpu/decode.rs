//! A few tokens at a time: products bound by reading the factors once.
//!
//! Threads share the columns of `V` and the rows of `U`; every element of a factor is loaded once for all tokens.

use super::coupling::{Couplings, add_scaled, couple_block, dot};
use crate::blast::Sizes;
use crate::cpu::{Matrix, Scalar, dense_slice, vectorized};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Rows of `U`, or columns of `V`, below which splitting a block among threads does not pay.
const MIN_SHARE: usize = 32;

/// Writes `y [tokens, m]` and, if asked for, `z [tokens, b2, r]`.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<E: Scalar>(
    sizes: Sizes,
    x: &FlexTensor,
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: &mut [E],
    save: Option<&mut [E]>,
) {
    let z = project::<E>(sizes, x, v);
    expand(sizes, &z, u, s, bias, y);
    if let Some(save) = save {
        save.copy_from_slice(&z);
    }
}

/// `z [tokens, b2, r]`.
fn project<E: Scalar>(sizes: Sizes, x: &FlexTensor, v: &FlexTensor) -> Vec<E> {
    let Sizes { tokens, b2, q, r, .. } = sizes;
    let v = v.to_contiguous();
    let v = dense_slice::<E>(&v);
    let source = Matrix::<E>::of(x, 0);
    let mut x = vec![E::ZERO; tokens * b2 * q];
    for (token, row) in x.chunks_exact_mut(b2 * q).enumerate() {
        source.copy_row(token, row);
    }

    // Each share is [tokens, width] of one block's columns; the last of a block may be narrower than its room.
    let shares = shares_of(b2, r);
    let width = r.div_ceil(shares);
    let mut partial = vec![E::ZERO; b2 * shares * tokens * width];
    partial.par_chunks_mut(tokens * width).enumerate().for_each(|(task, out)| {
        let (j, start) = (task / shares, (task % shares) * width);
        let width = width.min(r.saturating_sub(start));
        if width == 0 {
            return;
        }
        let block = &v[j * q * r..(j + 1) * q * r];
        vectorized(
            #[inline(always)]
            || {
                for (row, factors) in block.chunks_exact(r).enumerate() {
                    let factors = &factors[start..start + width];
                    for token in 0..tokens {
                        let value = x[(token * b2 + j) * q + row];
                        add_scaled(&mut out[token * width..(token + 1) * width], value, factors);
                    }
                }
            },
        );
    });

    let mut z = vec![E::ZERO; tokens * b2 * r];
    for (task, part) in partial.chunks_exact(tokens * width).enumerate() {
        let (j, start) = (task / shares, (task % shares) * width);
        let width = width.min(r.saturating_sub(start));
        for token in 0..tokens {
            let to = (token * b2 + j) * r + start;
            z[to..to + width].copy_from_slice(&part[token * width..(token + 1) * width]);
        }
    }
    z
}

/// `y_i = (Σ_j s_ij ∘ z_j) U_iᵀ + bias_i`.
fn expand<E: Scalar>(sizes: Sizes, z: &[E], u: &FlexTensor, s: Couplings<'_, E>, bias: Option<&[E]>, y: &mut [E]) {
    let Sizes { tokens, b1, b2, p, r, .. } = sizes;
    let u = u.to_contiguous();
    let u = dense_slice::<E>(&u);
    let shares = shares_of(b1, p);
    let height = p.div_ceil(shares);
    // [b1, shares, height, tokens]: the transpose of `y`, so that every share is one chunk.
    let mut columns = vec![E::ZERO; b1 * shares * height * tokens];
    columns.par_chunks_mut(height * tokens).enumerate().for_each_init(
        || vec![E::ZERO; tokens * r],
        |t, (task, out)| {
            let (i, start) = (task / shares, (task % shares) * height);
            let end = p.min(start + height);
            vectorized(
                #[inline(always)]
                || {
                    couple_block(z, b2, r, s, i, t, r);
                    for (row, out) in (start..end).zip(out.chunks_exact_mut(tokens)) {
                        let factors = &u[(i * p + row) * r..(i * p + row + 1) * r];
                        for (t, out) in t.chunks_exact(r).zip(out) {
                            *out = dot(t, factors);
                        }
                    }
                },
            );
        },
    );

    let m = b1 * p;
    for i in 0..b1 {
        for row in 0..p {
            let from = (i * shares * height + row) * tokens;
            let feature = i * p + row;
            let bias = bias.map_or(E::ZERO, |bias| bias[feature]);
            for token in 0..tokens {
                y[token * m + feature] = columns[from + token] + bias;
            }
        }
    }
}

/// Into how many parts each of `blocks` blocks of `len` rows (or columns) is cut, to keep every thread busy.
fn shares_of(blocks: usize, len: usize) -> usize {
    let threads = rayon::current_num_threads();
    threads.div_ceil(blocks).clamp(1, (len / MIN_SHARE).max(1))
}
