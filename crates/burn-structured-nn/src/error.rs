//! What can be wrong with the description of a layer. Each message names the culprit and the way out.

use burn::nn::Initializer;
use thiserror::Error;

/// Why a structured layer cannot be built.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum StructureError {
    /// A dimension of the layer is zero.
    #[error("{name} is 0; a layer needs at least one feature on each side")]
    EmptyDimension {
        /// `d_input` or `d_output`.
        name: &'static str,
    },
    /// A dimension does not split into that many equal blocks.
    #[error(
        "{name} = {size} cannot be cut into {blocks} equal blocks; the nearest block counts that work are {}",
        list(nearest)
    )]
    Indivisible {
        /// `d_input` or `d_output`.
        name: &'static str,
        /// Its value.
        size: usize,
        /// The number of blocks asked for.
        blocks: usize,
        /// The divisors of `size` just below and above, ascending.
        nearest: Vec<usize>,
    },
    /// The rank is zero.
    #[error("the rank is 0, which is the zero matrix; use a rank from 1 to {max}")]
    ZeroRank {
        /// The largest useful rank.
        max: usize,
    },
    /// The rank is higher than any matrix of this shape needs.
    #[error(
        "rank {rank} is above {max}, which already represents every {d_output}×{d_input} matrix exactly; \
         use a rank up to {max}"
    )]
    RankTooLarge {
        /// The rank asked for.
        rank: usize,
        /// The largest useful rank.
        max: usize,
        /// Rows of the matrix.
        d_output: usize,
        /// Columns of the matrix.
        d_input: usize,
    },
    /// The parameter ratio is not a share of the dense parameters.
    #[error("the parameter ratio is {ratio}; it is a share of the dense layer's parameters, above 0 and at most 1")]
    RatioOutOfRange {
        /// The ratio asked for.
        ratio: f64,
    },
    /// Not even rank 1 fits into the budget.
    #[error(
        "a parameter ratio of {ratio} leaves no room for rank 1, which takes {smallest:.4} of the dense parameters; \
         use a ratio of at least that, or fewer blocks"
    )]
    RatioTooSmall {
        /// The ratio asked for.
        ratio: f64,
        /// The share of the dense parameters that rank 1 takes.
        smallest: f64,
    },
    /// A setting that counts something is zero.
    #[error("{name} is 0; use 1 or more")]
    ZeroSetting {
        /// The setting.
        name: &'static str,
    },
    /// More blocks would share their weights than there are.
    #[error(
        "reduction {reduction} is above the number of input blocks: d_input = {d_input} in blocks of {block_k} makes \
         {blocks} blocks; use a reduction up to {blocks}, or a smaller block_k"
    )]
    ReductionTooLarge {
        /// The reduction asked for.
        reduction: usize,
        /// The number of input blocks.
        blocks: usize,
        /// The size of the input features.
        d_input: usize,
        /// The features of a block.
        block_k: usize,
    },
    /// The factors cannot imitate this distribution.
    #[error(
        "factors cannot imitate {initializer:?}: their product has mean 0; use an initializer without a mean, or a constant"
    )]
    InitializerWithMean {
        /// The initializer asked for.
        initializer: Initializer,
    },
}

fn list(counts: &[usize]) -> String {
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    counts.join(" and ")
}

/// `Err` if a dimension is zero.
pub(crate) fn check_dimensions(d_input: usize, d_output: usize) -> Result<(), StructureError> {
    for (name, size) in [("d_input", d_input), ("d_output", d_output)] {
        if size == 0 {
            return Err(StructureError::EmptyDimension { name });
        }
    }
    Ok(())
}
