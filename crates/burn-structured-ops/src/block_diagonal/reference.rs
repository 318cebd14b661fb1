//! Block-diagonal products in plain Burn operations: the fallback of every backend and the reference of the tests.

use super::{Order, Orders, shapes};
use crate::EpilogueTensors;
use crate::activation::ActivationBackend;
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

/// `[tokens, b size]` seen as `[b, tokens, size]`: a change of strides.
pub(crate) fn split<B: Backend>(x: FloatTensor<B>, blocks: usize, order: Order) -> FloatTensor<B> {
    let [tokens, features] = x.shape().dims();
    let size = features / blocks;
    match order {
        Order::Grouped => B::float_swap_dims(B::float_reshape(x, Shape::new([tokens, blocks, size])), 0, 1),
        Order::Strided => B::float_permute(B::float_reshape(x, Shape::new([tokens, size, blocks])), &[2, 0, 1]),
    }
}

/// `[b, tokens, size]` laid out as `[tokens, b size]`.
pub(crate) fn join<B: Backend>(y: FloatTensor<B>, order: Order) -> FloatTensor<B> {
    let [blocks, tokens, size] = y.shape().dims();
    let by_token = match order {
        Order::Grouped => B::float_swap_dims(y, 0, 1),
        Order::Strided => B::float_permute(y, &[1, 2, 0]),
    };
    B::float_reshape(by_token, Shape::new([tokens, blocks * size]))
}

pub(super) fn product<B: ActivationBackend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    epilogue: EpilogueTensors<B>,
    orders: Orders,
) -> FloatTensor<B> {
    check(shapes::product, [&x, &w]);
    let blocks = w.shape()[0];
    let y = B::float_matmul(split::<B>(x, blocks, orders.input), B::float_swap_dims(w, 1, 2));
    epilogue.apply(join::<B>(y, orders.output))
}

pub(super) fn gradient<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
    blocks: usize,
    orders: Orders,
) -> FloatTensor<B> {
    check(|shapes| shapes::gradient(shapes, blocks), [&x, &dy]);
    let dy = B::float_swap_dims(split::<B>(dy, blocks, orders.output), 1, 2);
    B::float_matmul(dy, split::<B>(x, blocks, orders.input))
}
