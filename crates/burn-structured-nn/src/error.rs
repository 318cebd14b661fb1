//! What can be wrong with the description of a layer. Each message names the culprit and the way out.

use burn::nn::Initializer;
use std::fmt;
use thiserror::Error;

/// Why a structured layer cannot be built.
///
/// `Debug` prints the message as well: it is what `unwrap` and a `main` that returns the error show.
#[derive(Error, PartialEq)]
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
        /// The number of blocks given.
        blocks: usize,
        /// The numbers just below and above that work, ascending; on both sides where both were given the same number.
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
        /// The rank given.
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
        /// The ratio given.
        ratio: f64,
    },
    /// Not even rank 1 fits into the budget.
    #[error(
        "a parameter ratio of {ratio} leaves no room for rank 1, which takes {:.4} of the dense parameters; \
         use a ratio of at least that{hint}",
        (smallest * 1e4).ceil() / 1e4
    )]
    RatioTooSmall {
        /// The ratio given.
        ratio: f64,
        /// The share of the dense parameters that rank 1 takes.
        smallest: f64,
        /// What else helps, as the end of a sentence.
        hint: &'static str,
    },
    /// A setting that counts something is zero.
    #[error("{name} is 0; use 1 or more")]
    ZeroSetting {
        /// The setting.
        name: &'static str,
    },
    /// A setting is above what the dimensions of the layer allow.
    #[error("{name} = {value} is above {limit}, the most that d_output = {d_output} and d_input = {d_input} allow")]
    SettingTooLarge {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest value.
        limit: usize,
        /// Rows of the matrix.
        d_output: usize,
        /// Columns of the matrix.
        d_input: usize,
    },
    /// The dense matrix is larger than memory can be.
    #[error("d_output = {d_output} by d_input = {d_input} has more than {limit} entries; use a smaller layer")]
    TooManyEntries {
        /// Rows of the matrix.
        d_output: usize,
        /// Columns of the matrix.
        d_input: usize,
        /// The most entries of a matrix in f64.
        limit: usize,
    },
    /// More blocks would share their weights than there are.
    #[error(
        "reduction {reduction} is above the number of input blocks: d_input = {d_input} in blocks of {block_k} makes \
         {blocks} blocks; use a reduction up to {blocks}, or a smaller block_k"
    )]
    ReductionTooLarge {
        /// The reduction given.
        reduction: usize,
        /// The number of input blocks.
        blocks: usize,
        /// The size of the input features.
        d_input: usize,
        /// The features of a block.
        block_k: usize,
    },
    /// No number of blocks divides both sides and is within the budget.
    #[error(
        "no number of blocks divides both d_output = {d_output} and d_input = {d_input} and leaves at most {ratio} of the \
         weights; use a higher ratio"
    )]
    NoBlockCount {
        /// The ratio given.
        ratio: f64,
        /// Rows of the matrix.
        d_output: usize,
        /// Columns of the matrix.
        d_input: usize,
    },
    /// The largest stride of a butterfly does not fit its blocks.
    #[error("stride {stride} is no power of two that divides the {blocks} blocks; use {}", list(fitting))]
    Stride {
        /// The stride given.
        stride: usize,
        /// The number of blocks.
        blocks: usize,
        /// The strides that work.
        fitting: Vec<usize>,
    },
    /// A window is wider than the layer, or not there at all.
    #[error("the window width is {width}; it is a share of the features, above 0 and at most 1")]
    WidthOutOfRange {
        /// The width given.
        width: f64,
    },
    /// The Gaussian that smooths a mask has no width.
    #[error("sigma is {sigma}; it is a number of harmonics above 0, and `None` for masks that are not smoothed")]
    SigmaOutOfRange {
        /// The width given.
        sigma: f64,
    },
    /// A dense weight or bias has another shape than the layer.
    #[error("the {name} to approximate has shape {actual:?}, but the layer needs {expected:?}")]
    WeightShape {
        /// `weight` or `bias`.
        name: &'static str,
        /// Its shape.
        actual: Vec<usize>,
        /// The shape of the layer.
        expected: Vec<usize>,
    },
    /// A dense weight has entries that are no numbers.
    #[error(
        "{count} entries of the weight to approximate are NaN or infinite; the first is in row {row}, column {column}"
    )]
    NotFinite {
        /// How many.
        count: usize,
        /// Where the first one is.
        row: usize,
        /// Where the first one is.
        column: usize,
    },
    /// A matrix decomposition did not converge.
    #[error(
        "the {name} of a {rows}×{columns} matrix did not converge; its entries may be out of range, so try scaling it"
    )]
    NotConverged {
        /// The decomposition.
        name: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// A layer of this structure cannot be quantized.
    #[error(
        "a {structure} layer has no int8 form; dense, low-rank, BLAST, Monarch, SS1, block-diagonal and block tensor-train layers \
         have"
    )]
    NoInt8 {
        /// The structure.
        structure: &'static str,
    },
    /// A product of int8 would sum over too many inputs for i32.
    #[error(
        "a factor sums over {inputs} inputs; as int8 it may sum over {limit} at most, so cut the layer into more blocks"
    )]
    TooDeepForInt8 {
        /// The inputs of a block.
        inputs: usize,
        /// The most that fit.
        limit: usize,
    },
    /// The factors cannot imitate this distribution.
    #[error(
        "factors cannot imitate {initializer:?}: their product has mean 0; use an initializer without a mean, or a constant"
    )]
    InitializerWithMean {
        /// The initializer given.
        initializer: Initializer,
    },
}

impl fmt::Debug for StructureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn list(counts: &[usize]) -> String {
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    if counts.len() == 2 { counts.join(" and ") } else { counts.join(", ") }
}

/// The most entries a dense matrix can have: an allocation is at most `isize::MAX` bytes. Every structure has at most a small
/// multiple of the dense weights, which therefore cannot overflow.
const MAX_ENTRIES: usize = isize::MAX as usize / size_of::<f64>();

/// `Err` if a dimension is zero, or if the dense matrix could not be stored.
pub(crate) fn check_dimensions(d_input: usize, d_output: usize) -> Result<(), StructureError> {
    for (name, size) in [("d_input", d_input), ("d_output", d_output)] {
        if size == 0 {
            return Err(StructureError::EmptyDimension { name });
        }
    }
    match d_input.checked_mul(d_output) {
        Some(entries) if entries <= MAX_ENTRIES => Ok(()),
        _ => Err(StructureError::TooManyEntries { d_output, d_input, limit: MAX_ENTRIES }),
    }
}
