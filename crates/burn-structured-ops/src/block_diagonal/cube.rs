//! Block-diagonal products on every CubeCL runtime: one batched GEMM, Burn's or this crate's.
//!
//! The groups of the input are strides of the GEMM's operand. Those of the output are strides of its result where they are
//! neighbours; Burn's matmul needs unit stride along the columns, so a strided output is permuted afterwards, except by
//! the tiled GEMM.

use super::{BlockDiagonalBackend, BlockStrategy, Order, Orders, reference, shapes};
use crate::EpilogueTensors;
use crate::cube::empty_like;
use crate::cube::gemm::{burn_gemm, tiled_gemm};
use crate::operands::check;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;

impl BlockDiagonalBackend for CubeBackend {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        check(shapes::product, [&x, &w]);
        let [blocks, p, q] = w.shape().dims();
        let tokens = x.shape()[0];
        epilogue.check([tokens, blocks * p], x.dtype());
        if strategy == BlockStrategy::Reference || tokens * blocks * p * q == 0 {
            return reference::product::<Self>(x, w, epilogue, orders);
        }
        let lhs = reference::split::<Self>(x, blocks, orders.input);
        let rhs = Self::float_swap_dims(w, 1, 2);
        let y = match (strategy, orders.output) {
            (BlockStrategy::TiledGemm, order) | (_, order @ Order::Grouped) => {
                let y = empty_like(&lhs, Shape::new([tokens, blocks * p]), lhs.dtype);
                let by_block = reference::split::<Self>(y.clone(), blocks, order);
                match strategy {
                    BlockStrategy::TiledGemm => tiled_gemm(lhs, rhs, Some(by_block)),
                    _ => burn_gemm(lhs, rhs, Some(by_block)),
                };
                y
            }
            (_, Order::Strided) => reference::join::<Self>(burn_gemm(lhs, rhs, None), Order::Strided),
        };
        epilogue.apply(y)
    }

    fn block_diagonal_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        blocks: usize,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::gradient(shapes, blocks), [&x, &dy]);
        if strategy == BlockStrategy::Reference || x.shape().num_elements() * dy.shape().num_elements() == 0 {
            return reference::gradient::<Self>(x, dy, blocks, orders);
        }
        let dy = Self::float_swap_dims(reference::split::<Self>(dy, blocks, orders.output), 1, 2);
        let x = reference::split::<Self>(x, blocks, orders.input);
        match strategy {
            BlockStrategy::TiledGemm => tiled_gemm(dy, x, None),
            _ => burn_gemm(dy, x, None),
        }
    }
}
