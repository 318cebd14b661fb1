//! Structures with their ranks as numbers, and what they take, without building a layer.

use super::Weights;
use burn_structured_nn::{
    BlastLinearConfig, BlockCount, BlockDiagonalLinearConfig, Blocks, BttLinearConfig, GaudiLinearConfig,
    KroneckerLinearConfig, LowRankLinearConfig, MonarchLinearConfig, PixelflyLinearConfig, Rank, Ss1Hash,
    Ss1LinearConfig, Structure, StructureError,
};
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, Sub};

/// What a weight, or several, take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Stored parameters.
    pub params: usize,
    /// FLOPs for one token: two for a multiplication and the addition that follows.
    pub flops_per_token: usize,
    /// Bytes in the file.
    pub bytes: usize,
}

impl Size {
    /// Weights of a number of bytes each.
    pub(crate) fn new(weights: Weights, bytes_per_param: usize) -> Self {
        let Weights { params, flops_per_token } = weights;
        Self { params, flops_per_token, bytes: params * bytes_per_param }
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            params: self.params + other.params,
            flops_per_token: self.flops_per_token + other.flops_per_token,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            params: self.params.saturating_sub(other.params),
            flops_per_token: self.flops_per_token.saturating_sub(other.flops_per_token),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Add::add)
    }
}

/// A structure for a matrix of known size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resolved {
    /// With the block grid and the rank as numbers.
    pub structure: Structure,
    /// The rank, for structures that have one.
    pub rank: Option<usize>,
    /// What it takes, without a bias.
    pub weights: Weights,
}

impl Resolved {
    /// # Errors
    ///
    /// If the structure does not fit a matrix `[d_output, d_input]`.
    pub fn new(structure: Structure, d_input: usize, d_output: usize) -> Result<Self, StructureError> {
        let (n, m) = (d_input, d_output);
        let grid = |[output, input]: [usize; 2]| Blocks::Grid { output, input };
        let of_rank = |rank: usize, params: usize, multiplications: usize| {
            let weights = Weights { params, flops_per_token: 2 * multiplications };
            (Some(rank), structure.with_rank(Rank::Fixed(rank)), weights)
        };
        let (rank, structure, weights) = match structure {
            Structure::Blast { blocks, rank } => {
                let ([b1, b2], r) = BlastLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank).resolve()?;
                let params = r * (m + n + b1 * b2);
                let (rank, structure, weights) = of_rank(r, params, params);
                (rank, structure.with_blocks(grid([b1, b2])), weights)
            }
            Structure::LowRank { rank } => {
                let r = LowRankLinearConfig::new(n, m).with_rank(rank).resolve()?;
                of_rank(r, r * (m + n), r * (m + n))
            }
            Structure::Monarch { blocks, rank } => {
                let ([b1, b2], r) = MonarchLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank).resolve()?;
                let params = r * (b1 * n + b2 * m);
                let (rank, structure, weights) = of_rank(r, params, params);
                (rank, structure.with_blocks(grid([b1, b2])), weights)
            }
            Structure::Btt { blocks, rank } => {
                let ([b1, b2], r) = BttLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank).resolve()?;
                let params = r * (b1 * n + b2 * m);
                let (rank, structure, weights) = of_rank(r, params, params);
                (rank, structure.with_blocks(grid([b1, b2])), weights)
            }
            Structure::Kronecker { blocks, rank } => {
                let ([m1, n1], r) = KroneckerLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank).resolve()?;
                let (m2, n2) = (m / m1, n / n1);
                let (rank, structure, weights) = of_rank(r, r * (m1 * n1 + m2 * n2), r * n1 * m2 * (n2 + m1));
                (rank, structure.with_blocks(grid([m1, n1])), weights)
            }
            Structure::Pixelfly { blocks, stride, rank } => {
                let config = PixelflyLinearConfig::new(n, m).with_blocks(blocks).with_stride(stride).with_rank(rank);
                let (levels, r) = config.resolve()?;
                let params = levels * (m / blocks) * n + r * (m + n);
                of_rank(r, params, params)
            }
            Structure::Gaudi { rank, width, sigma, sharp } => {
                let config = GaudiLinearConfig::new(n, m).with_rank(rank).with_width(width).with_sigma(sigma);
                let r = config.with_straight_through(sharp).resolve()?;
                of_rank(r, r * (m + n + 4), r * (m + n))
            }
            Structure::BlockDiagonal { blocks } => {
                let blocks = BlockDiagonalLinearConfig::new(n, m).with_blocks(blocks).resolve()?;
                let weights = Weights { params: m * n / blocks, flops_per_token: 2 * (m * n / blocks) };
                (None, Structure::BlockDiagonal { blocks: BlockCount::Fixed(blocks) }, weights)
            }
            Structure::Ss1 { reduction, block_k, block_n, independent } => {
                let hash = independent.map_or_else(Ss1Hash::default, |seed| Ss1Hash::Independent { seed, signs: true });
                let config = Ss1LinearConfig::new(n, m).with_reduction(reduction).with_hash(hash);
                let fold = config.with_block_k(block_k).with_block_n(block_n).fold()?;
                let (width, additions) = (fold.width(), (n - fold.width().min(n)) * fold.output_blocks(m));
                (None, structure, Weights { params: width * m, flops_per_token: 2 * width * m + additions })
            }
            _ => (None, structure, Weights { params: m * n, flops_per_token: 2 * m * n }),
        };
        Ok(Self { structure, rank, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn_structured_nn::StructuredLinearConfig;

    #[test]
    fn resolved_equals_the_layer() {
        for text in [
            "dense",
            "blast:b=2x4,ratio=0.5",
            "blast",
            "low-rank:ratio=0.4",
            "ss1:c=2,k=4,n=8",
            "ss1:c=2,k=3,n=7,hash=independent,seed=5",
            "monarch:b=2x4,ratio=0.5",
            "block-diagonal:ratio=0.3",
            "pixelfly:b=4,stride=2,r=2",
            "gaudi:r=3,width=0.25",
            "btt:b=4x2,r=1",
            "btt:r=1",
            "kronecker:b=3x4,r=2",
            "kronecker:r=2",
        ] {
            let structure: Structure = text.parse().unwrap();
            let config = StructuredLinearConfig::new(16, 24, structure).with_bias(false);
            let layer = config.init(&Device::flex());
            let resolved = Resolved::new(structure, 16, 24).unwrap();
            let cost = layer.cost();
            assert_eq!(resolved.weights.params, cost.params, "{text}");
            assert_eq!(resolved.weights.flops_per_token, cost.flops_per_token, "{text}");
            // A layer forgets the width of its windows.
            if !matches!(structure, Structure::Gaudi { .. }) {
                assert_eq!(Some(resolved.structure), layer.structure(), "{text}");
            }
            assert_eq!(Resolved::new(resolved.structure, 16, 24), Ok(resolved), "{text}");
        }
    }

    #[test]
    fn resolved_refuses_extreme_settings() {
        for text in ["blast:b=1152921504606846976,r=1", "low-rank:r=1152921504606846976", "ss1:c=99999999999,k=4"] {
            assert!(Resolved::new(text.parse().unwrap(), 16, 24).is_err(), "{text}");
        }
    }
}
