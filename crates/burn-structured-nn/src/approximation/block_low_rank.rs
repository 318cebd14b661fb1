//! The nearest matrix whose blocks have low rank: what Monarch, block tensor-trains and BLAST start from.

use super::svd::{Balanced, balanced, matrix, tensor};
use super::{Approximation, read_weight};
use crate::parameter::parameter;
use crate::{BttLinear, BttLinearConfig, MonarchLinear, MonarchLinearConfig, StructureError};
use burn::tensor::{DType, Device, Tensor};
use burn_structured_ops::block_diagonal::Order;
use faer::Mat;

/// The truncated decompositions of every block of a matrix.
pub(crate) struct BlockLowRank {
    /// Blocks `[output, input]`.
    pub grid: [usize; 2],
    /// Rank of each block.
    pub rank: usize,
    blocks: Vec<Balanced>,
}

impl BlockLowRank {
    /// Of `values [d_output, d_input]`, row by row. `order` says which rows make a block.
    pub fn nearest(
        values: &[f64],
        [d_output, d_input]: [usize; 2],
        [b1, b2]: [usize; 2],
        rank: usize,
        order: Order,
    ) -> Result<Self, StructureError> {
        let dense = matrix(values, d_output, d_input);
        let (p, q) = (d_output / b1, d_input / b2);
        let blocks = (0..b1 * b2).map(|index| {
            let (i, j) = (index / b2, index % b2);
            let block = Mat::from_fn(p, q, |row, column| {
                let row = match order {
                    Order::Grouped => i * p + row,
                    Order::Strided => row * b1 + i,
                };
                dense[(row, j * q + column)]
            });
            balanced(block.as_ref(), rank)
        });
        Ok(Self { grid: [b1, b2], rank, blocks: blocks.collect::<Result<_, _>>()? })
    }

    /// The factors of block `(i, j)`.
    pub fn block(&self, i: usize, j: usize) -> &Balanced {
        &self.blocks[i * self.grid[1] + j]
    }

    /// The right and left factors of [`burn_structured_ops::monarch`]: component `t` of block `(i, j)` is feature `t b1 + i`
    /// that block `j` of the right factor makes, and feature `j rank + t` that block `i` of the left factor reads.
    pub fn factors(&self, [d_output, d_input]: [usize; 2], device: &Device, dtype: DType) -> [Tensor<3>; 2] {
        let ([b1, b2], rank) = (self.grid, self.rank);
        let (p, q) = (d_output / b1, d_input / b2);
        let right = |at: usize| {
            let (j, feature, column) = (at / (rank * b1 * q), at / q % (rank * b1), at % q);
            self.block(feature % b1, j).right[(column, feature / b1)]
        };
        let left = |at: usize| {
            let (i, row, feature) = (at / (p * rank * b2), at / (rank * b2) % p, at % (rank * b2));
            self.block(i, feature / rank).left[(row, feature % rank)]
        };
        [tensor([b2, rank * b1, q], right, device, dtype), tensor([b1, p, rank * b2], left, device, dtype)]
    }
}

macro_rules! from_dense {
    ($Layer:ident, $Config:ident, $order:expr) => {
        impl $Config {
            /// The layer nearest to a dense `weight [d_output, d_input]`: a truncated singular value decomposition of each block,
            /// the least-squares optimum, with `bias` as it is.
            ///
            /// # Errors
            ///
            /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
            pub fn from_dense(
                &self,
                weight: Tensor<2>,
                bias: Option<Tensor<1>>,
            ) -> Result<Approximation<$Layer>, StructureError> {
                let (d_input, d_output) = (self.d_input, self.d_output);
                let (grid, rank) = self.resolve()?;
                let values = read_weight(&weight, bias.as_ref(), d_input, d_output)?;
                let nearest = BlockLowRank::nearest(&values, [d_output, d_input], grid, rank, $order)?;
                let [right, left] = nearest.factors([d_output, d_input], &weight.device(), weight.dtype());
                let layer = $Layer { right: parameter(right), left: parameter(left), bias: bias.map(parameter) };
                Ok(Approximation::measured(layer, $Layer::to_dense, weight))
            }
        }
    };
}

from_dense!(MonarchLinear, MonarchLinearConfig, Order::Strided);
from_dense!(BttLinear, BttLinearConfig, Order::Grouped);
