//! The nearest matrix whose blocks have low rank: what Monarch, block tensor-trains and BLAST start from.

use crate::rank::RankBudget;
use crate::svd::{Balanced, balanced, matrix, tensor};
use crate::{Rank, StructureError};
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

/// The grid and the rank of a matrix `[d_output, d_input]` of `blocks (b1, b2)`: a rank costs `b1 d_input + b2 d_output`
/// weights, and stops at that of a block.
pub(crate) fn resolve(
    (b1, b2): (usize, usize),
    rank: Rank,
    [d_output, d_input]: [usize; 2],
    hint: &'static str,
) -> Result<([usize; 2], usize), StructureError> {
    let rank = rank.resolve(RankBudget {
        d_input,
        d_output,
        fixed: 0,
        params_per_rank: b1 * d_input + b2 * d_output,
        hint,
        max: (d_output / b1).min(d_input / b2),
    })?;
    Ok(([b1, b2], rank))
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
