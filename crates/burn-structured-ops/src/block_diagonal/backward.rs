//! The hand-written backward pass: of a product that is linear in either operand.
//!
//! The gradient of the input is a product with the transposed blocks and the orders swapped; that of the blocks is one
//! small product a block.

use super::{BlockDiagonalBackend, BlockStrategy, Orders, reference};
use crate::bilinear::{Bilinear, record};
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

impl<B: BlockDiagonalBackend, C: CheckpointStrategy> BlockDiagonalBackend for Autodiff<B, C> {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        if strategy == BlockStrategy::Reference {
            return reference::product::<Self>(x, w, epilogue, orders);
        }
        let (bias, rest) = epilogue.split_bias();
        rest.apply(record::<B, C>(Product { blocks: w.shape()[0], orders, strategy }, x, w, bias))
    }
}

#[derive(Clone, Copy, Debug)]
struct Product {
    blocks: usize,
    orders: Orders,
    strategy: BlockStrategy,
}

impl<B: BlockDiagonalBackend> Bilinear<B> for Product {
    fn product(self, x: FloatTensor<B>, w: FloatTensor<B>, bias: OptionalTensor<B>) -> FloatTensor<B> {
        B::block_diagonal_product(x, w, bias.into(), self.orders, self.strategy)
    }

    fn input_gradient(self, dy: FloatTensor<B>, w: FloatTensor<B>) -> FloatTensor<B> {
        let w = B::float_swap_dims(w, 1, 2);
        B::block_diagonal_product(dy, w, OptionalTensor::None.into(), self.orders.transposed(), self.strategy)
    }

    fn weight_gradient(self, x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
        B::block_diagonal_gradient(x, dy, self.blocks, self.orders, self.strategy)
    }
}
