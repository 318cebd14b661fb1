//! The description of a structure, as a configuration file or a command line holds it.
//!
//! The text form is `name` or `name:key=value,key=value`:
//!
//! | text | meaning |
//! |---|---|
//! | `dense` | an ordinary linear layer |
//! | `blast:b=6,ratio=0.5` | BLAST, 6×6 blocks, half of the dense parameters |
//! | `blast:b=3x6,r=40` | BLAST, 3 row blocks, 6 column blocks, rank 40 |
//! | `blast` | BLAST, blocks chosen, half of the dense parameters |
//! | `low-rank:r=64` | low rank, rank 64 |
//! | `ss1:c=4` | SS1, every weight used four times, blocks of 16 features and 64 rows, the additive hash |
//! | `ss1:c=4,k=8,n=32,hash=independent,seed=1` | SS1 with every setting |
//! | `monarch:b=4,ratio=0.5` | Monarch, 4×4 blocks, half of the dense parameters |
//! | `block-diagonal:b=4` | block-diagonal, 4 blocks |
//! | `block-diagonal:ratio=0.3` | block-diagonal, the fewest blocks that leave at most this share |
//! | `pixelfly:b=16,stride=4,r=32` | Pixelfly, 16×16 blocks, butterfly of stride 4, low-rank part of rank 32 |
//! | `gaudi:r=64,width=0.5` | Gaudi-GBLR, 64 components, initial windows half as wide as the layer |
//! | `gaudi:ratio=0.3,sigma=20,windows=sharp` | masks smoothed over 20 harmonics, windows of whole features in the forward pass |
//! | `btt:r=2` | block tensor-train of rank 2, cores near the square roots |
//! | `kronecker:b=24x48,r=4` | four Kronecker products, the first factors 24×48 |

mod layer;
mod parse;

pub use parse::StructureParseError;

use crate::{BlockCount, Blocks, Rank};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which structure a [`crate::StructuredLinear`] has. Serialised as its text form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Structure {
    /// An ordinary linear layer.
    #[default]
    Dense,
    /// A [`crate::BlastLinear`].
    Blast {
        /// The block grid.
        blocks: Blocks,
        /// The rank, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::LowRankLinear`].
    LowRank {
        /// The rank, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::Ss1Linear`].
    Ss1 {
        /// How many input blocks share their weights.
        reduction: usize,
        /// Input features of a block.
        block_k: usize,
        /// Output rows that share their rotations.
        block_n: usize,
        /// The seed of independent rotations with signs; `None` for the additive hash.
        independent: Option<u32>,
    },
    /// A [`crate::MonarchLinear`].
    Monarch {
        /// The block grid.
        blocks: Blocks,
        /// The rank of each block, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::BlockDiagonalLinear`].
    BlockDiagonal {
        /// The number of blocks, or the share of the dense parameters.
        blocks: BlockCount,
    },
    /// A [`crate::PixelflyLinear`].
    Pixelfly {
        /// Into how many blocks each side is cut.
        blocks: usize,
        /// The maximum stride of the butterfly.
        stride: usize,
        /// The rank of the low-rank part, or the share of the dense parameters for both parts.
        rank: Rank,
    },
    /// A [`crate::GaudiLinear`].
    Gaudi {
        /// The number of components, or the share of the dense parameters.
        rank: Rank,
        /// The width of the initial windows, as a share of the features.
        width: f64,
        /// The width in harmonics of the Gaussian that smooths the masks, if any.
        sigma: Option<f64>,
        /// Whether the forward pass uses windows of whole features.
        sharp: bool,
    },
    /// A [`crate::BttLinear`].
    Btt {
        /// The block grid.
        blocks: Blocks,
        /// The rank of the train, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::KroneckerLinear`].
    Kronecker {
        /// The block grid, which is the shape of the first factors.
        blocks: Blocks,
        /// The number of products, or the share of the dense parameters.
        rank: Rank,
    },
}

impl Structure {
    /// The names the text form knows.
    pub const NAMES: [&'static str; 10] =
        ["dense", "blast", "low-rank", "ss1", "monarch", "block-diagonal", "pixelfly", "gaudi", "btt", "kronecker"];

    /// Whether layers of this structure have an int8 form, see [`StructuredLinear::quantize`](crate::StructuredLinear::quantize).
    pub fn has_int8(&self) -> bool {
        !matches!(self, Self::Pixelfly { .. } | Self::Gaudi { .. } | Self::Kronecker { .. })
    }

    /// The name alone, without settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Blast { .. } => "blast",
            Self::LowRank { .. } => "low-rank",
            Self::Ss1 { .. } => "ss1",
            Self::Monarch { .. } => "monarch",
            Self::BlockDiagonal { .. } => "block-diagonal",
            Self::Pixelfly { .. } => "pixelfly",
            Self::Gaudi { .. } => "gaudi",
            Self::Btt { .. } => "btt",
            Self::Kronecker { .. } => "kronecker",
        }
    }

    /// The same structure with another rank.
    ///
    /// Two structures have no rank. For a share of the dense parameters, [`Structure::Ss1`] gets the nearest reduction and
    /// [`Structure::BlockDiagonal`] as many blocks as it takes; a fixed rank leaves them as they are.
    /// [`Structure::Dense`] is returned unchanged.
    pub fn with_rank(self, rank: Rank) -> Self {
        match (self, rank) {
            (Self::Ss1 { block_k, block_n, independent, .. }, Rank::Ratio(ratio)) => {
                Self::Ss1 { reduction: (1.0 / ratio).round().max(1.0) as usize, block_k, block_n, independent }
            }
            (Self::BlockDiagonal { .. }, Rank::Ratio(ratio)) => {
                Self::BlockDiagonal { blocks: BlockCount::Ratio(ratio) }
            }
            (same @ (Self::Dense | Self::Ss1 { .. } | Self::BlockDiagonal { .. }), _) => same,
            (Self::Blast { blocks, .. }, _) => Self::Blast { blocks, rank },
            (Self::LowRank { .. }, _) => Self::LowRank { rank },
            (Self::Monarch { blocks, .. }, _) => Self::Monarch { blocks, rank },
            (Self::Pixelfly { blocks, stride, .. }, _) => Self::Pixelfly { blocks, stride, rank },
            (Self::Gaudi { width, sigma, sharp, .. }, _) => Self::Gaudi { rank, width, sigma, sharp },
            (Self::Btt { blocks, .. }, _) => Self::Btt { blocks, rank },
            (Self::Kronecker { blocks, .. }, _) => Self::Kronecker { blocks, rank },
        }
    }

    /// The same structure with another block grid; structures without a grid are returned unchanged.
    ///
    /// [`Structure::BlockDiagonal`] and [`Structure::Pixelfly`] have as many blocks on both sides, and take only
    /// [`Blocks::Square`].
    pub fn with_blocks(self, blocks: Blocks) -> Self {
        match (self, blocks) {
            (Self::Blast { rank, .. }, _) => Self::Blast { blocks, rank },
            (Self::Monarch { rank, .. }, _) => Self::Monarch { blocks, rank },
            (Self::Btt { rank, .. }, _) => Self::Btt { blocks, rank },
            (Self::Kronecker { rank, .. }, _) => Self::Kronecker { blocks, rank },
            (Self::BlockDiagonal { .. }, Blocks::Square(count)) => {
                Self::BlockDiagonal { blocks: BlockCount::Fixed(count) }
            }
            (Self::Pixelfly { stride, rank, .. }, Blocks::Square(blocks)) => Self::Pixelfly { blocks, stride, rank },
            (other, _) => other,
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = |rank: &Rank| match rank {
            Rank::Fixed(rank) => format!("r={rank}"),
            Rank::Ratio(ratio) => format!("ratio={ratio}"),
        };
        let grid = |blocks: &Blocks| match blocks {
            Blocks::Auto => "b=auto".to_string(),
            Blocks::Square(blocks) => format!("b={blocks}"),
            Blocks::Grid { output, input } => format!("b={output}x{input}"),
        };
        let name = self.name();
        match self {
            Self::Dense => write!(f, "{name}"),
            Self::Blast { blocks, rank: r }
            | Self::Monarch { blocks, rank: r }
            | Self::Btt { blocks, rank: r }
            | Self::Kronecker { blocks, rank: r } => write!(f, "{name}:{},{}", grid(blocks), rank(r)),
            Self::LowRank { rank: r } => write!(f, "{name}:{}", rank(r)),
            Self::Ss1 { reduction, block_k, block_n, independent } => {
                write!(f, "{name}:c={reduction},k={block_k},n={block_n},")?;
                match independent {
                    Some(seed) => write!(f, "hash=independent,seed={seed}"),
                    None => write!(f, "hash=additive"),
                }
            }
            Self::BlockDiagonal { blocks: BlockCount::Fixed(blocks) } => write!(f, "{name}:b={blocks}"),
            Self::BlockDiagonal { blocks: BlockCount::Ratio(ratio) } => write!(f, "{name}:ratio={ratio}"),
            Self::Pixelfly { blocks, stride, rank: r } => write!(f, "{name}:b={blocks},stride={stride},{}", rank(r)),
            Self::Gaudi { rank: r, width, sigma, sharp } => {
                write!(f, "{name}:{},width={width}", rank(r))?;
                if let Some(sigma) = sigma {
                    write!(f, ",sigma={sigma}")?;
                }
                if *sharp { write!(f, ",windows=sharp") } else { Ok(()) }
            }
        }
    }
}

impl TryFrom<String> for Structure {
    type Error = StructureParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Structure> for String {
    fn from(structure: Structure) -> Self {
        structure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_parameters_reaches_every_structure() {
        for name in Structure::NAMES {
            let structure: Structure = name.parse().unwrap();
            let text = structure.with_rank(Rank::Ratio(0.25)).to_string();
            let expected = match name {
                "dense" => "dense",
                "ss1" => "ss1:c=4,k=16,n=64,hash=additive",
                _ => "ratio=0.25",
            };
            assert!(text.contains(expected), "{text}");
            assert_eq!(structure.name(), name);
        }
    }

    #[test]
    fn a_grid_reaches_the_structures_that_have_one() {
        let text = |name: &str, blocks| name.parse::<Structure>().unwrap().with_blocks(blocks).to_string();
        assert_eq!(text("monarch", Blocks::Grid { output: 2, input: 3 }), "monarch:b=2x3,ratio=0.5");
        assert_eq!(text("block-diagonal", Blocks::Square(6)), "block-diagonal:b=6");
        assert_eq!(text("pixelfly", Blocks::Square(8)), "pixelfly:b=8,stride=4,ratio=0.5");
        assert_eq!(text("pixelfly", Blocks::Auto), "pixelfly:b=16,stride=4,ratio=0.5");
        assert_eq!(text("low-rank", Blocks::Square(8)), "low-rank:ratio=0.5");
    }

    #[test]
    fn serde_uses_the_text_form() {
        let structure: Structure = serde_json::from_str("\"low-rank:r=8\"").unwrap();
        assert_eq!(structure, Structure::LowRank { rank: Rank::Fixed(8) });
        assert_eq!(serde_json::to_string(&structure).unwrap(), "\"low-rank:r=8\"");
        let error = serde_json::from_str::<Structure>("\"low-rank:q=8\"").unwrap_err().to_string();
        assert!(error.contains("its settings are r, ratio"), "{error}");
    }
}
