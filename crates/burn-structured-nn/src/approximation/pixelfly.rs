//! A Pixelfly matrix near a dense one: its blocks and its low-rank part, in turn.

use super::svd::{self, Balanced};
use super::{Approximation, read_weight};
use crate::parameter::parameter;
use crate::{PixelflyLinear, PixelflyLinearConfig, StructureError};
use burn::tensor::Tensor;
use burn_structured_ops::pixelfly::pixelfly_blocks;
use faer::Mat;

/// Alternations between the blocks and the low-rank rest when a dense weight is approximated.
const ALTERNATIONS: usize = 12;

/// The alternation ends when it improves the error by less than this share.
const LEAST_IMPROVEMENT: f64 = 1e-3;

impl PixelflyLinearConfig {
    /// A layer near a dense `weight [d_output, d_input]`, with `bias` as it is: the low-rank part and the blocks are fitted to
    /// what the other leaves, in turn, from the better of both first moves. Either fit is optimal by itself; the two together
    /// end in a local optimum.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<PixelflyLinear>, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let (levels, rank) = self.resolve()?;
        let values = read_weight(&weight, bias.as_ref(), d_input, d_output)?;
        let dense = svd::matrix(&values, d_output, d_input).to_owned();
        let (p, q) = (d_output / self.blocks, d_input / self.blocks);
        let kept = |row: usize, column: usize| {
            let difference = (row / p) ^ (column / q);
            difference == 0 || (difference.is_power_of_two() && difference < self.stride)
        };
        let outside =
            |matrix: &Mat<f64>| Mat::from_fn(d_output, d_input, |i, j| if kept(i, j) { 0.0 } else { matrix[(i, j)] });
        // The low-rank part of the whole weight, or of what the blocks leave of it.
        let mut best: Option<(f64, Balanced)> = None;
        for first in [&dense, &outside(&dense)] {
            let mut low_rank = svd::balanced(first.as_ref(), rank)?;
            let mut error = f64::INFINITY;
            for _ in 0..ALTERNATIONS {
                let product = &low_rank.left * low_rank.right.transpose();
                let missed = outside(&(&dense - &product)).norm_l2();
                if best.as_ref().is_none_or(|(least, _)| missed < *least) {
                    best = Some((missed, Balanced { left: low_rank.left.clone(), right: low_rank.right.clone() }));
                }
                if missed <= 1e-14 * dense.norm_l2() || missed > (1.0 - LEAST_IMPROVEMENT) * error {
                    break;
                }
                error = missed;
                // With the blocks fitted to what the low-rank part leaves, it may be anything within them.
                let target =
                    Mat::from_fn(d_output, d_input, |i, j| if kept(i, j) { product[(i, j)] } else { dense[(i, j)] });
                low_rank = svd::balanced(target.as_ref(), rank)?;
            }
        }
        let Some((_, low_rank)) = best else {
            return Err(StructureError::NotConverged { name: "alternation", rows: d_output, columns: d_input });
        };
        let [v, ut] = low_rank.to_tensors(&weight.device(), weight.dtype());
        let rest = weight.clone() - v.clone().matmul(ut.clone()).transpose();
        let layer = PixelflyLinear {
            w: parameter(pixelfly_blocks(rest, self.blocks, levels)),
            v: parameter(v),
            ut: parameter(ut),
            bias: bias.map(parameter),
        };
        Ok(Approximation::measured(layer, PixelflyLinear::to_dense, weight))
    }
}
