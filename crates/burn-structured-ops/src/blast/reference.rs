//! The BLAST product in plain Burn operations: the fallback of every backend and the reference of the tests.
//!
//! The coupling is a batched matmul over the rank, `[r, tokens, b2] × [r, b2, b1]`, so that not even the reference
//! materialises the `[b1, b2, tokens, r]` product that a broadcast would.

use super::shapes;
use crate::EpilogueTensors;
use crate::activation::ActivationBackend;
use crate::block_diagonal::{Order, reference as block_diagonal};
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

/// `y [tokens, m]` and `z [b2, tokens, r]`.
pub(super) fn forward<B: ActivationBackend>(
    x: FloatTensor<B>,
    u: FloatTensor<B>,
    s: FloatTensor<B>,
    v: FloatTensor<B>,
    epilogue: EpilogueTensors<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let z = project::<B>(x, v);
    let t = couple::<B>(z.clone(), s);
    let y = expand::<B>(t, u);
    (epilogue.apply(y), z)
}

/// `[tokens, b q]` seen as `[b, tokens, q]`: a change of strides.
pub(super) fn split<B: Backend>(x: FloatTensor<B>, blocks: usize) -> FloatTensor<B> {
    block_diagonal::split::<B>(x, blocks, Order::Grouped)
}

pub(super) fn project<B: Backend>(x: FloatTensor<B>, factor: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::projection, [&x, &factor]);
    let blocks = factor.shape()[0];
    B::float_matmul(split::<B>(x, blocks), factor)
}

pub(super) fn couple<B: Backend>(z: FloatTensor<B>, s: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::coupling, [&z, &s]);
    let z = B::float_permute(z, &[2, 1, 0]);
    let s = B::float_permute(s, &[2, 1, 0]);
    B::float_permute(B::float_matmul(z, s), &[2, 1, 0])
}

pub(super) fn expand<B: Backend>(t: FloatTensor<B>, factor: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::expansion, [&t, &factor]);
    block_diagonal::join::<B>(B::float_matmul(t, B::float_swap_dims(factor, 1, 2)), Order::Grouped)
}

pub(super) fn coupling_gradient<B: Backend>(t_grad: FloatTensor<B>, z: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::coupling_gradient, [&t_grad, &z]);
    let t_grad = B::float_permute(t_grad, &[2, 0, 1]);
    let z = B::float_permute(z, &[2, 1, 0]);
    B::float_permute(B::float_matmul(t_grad, z), &[1, 2, 0])
}

pub(super) fn factor_gradient<B: Backend>(x: FloatTensor<B>, z: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::factor_gradient, [&x, &z]);
    let blocks = z.shape()[0];
    B::float_matmul(B::float_swap_dims(split::<B>(x, blocks), 1, 2), z)
}
