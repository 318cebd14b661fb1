//! The errors of this crate. Each message names the culprit and what to do.

use burn_structured_nn::{Structure, StructureError};
use burn_structured_ops::spd::SpdError;
use thiserror::Error;

/// Why a matrix could not be compressed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompressError {
    /// The structure does not fit the matrix.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// There is no matrix, or it has no entries.
    #[error("there is no matrix, or it has no entries; pass at least one")]
    NoMatrix,
    /// Entries are NaN or infinite.
    #[error("{count} entries of matrix {matrix} are NaN or infinite; the first is in row {row}, column {column}")]
    NotFinite {
        /// Which one of the batch.
        matrix: usize,
        /// How many entries.
        count: usize,
        /// Where the first one is.
        row: usize,
        /// Where the first one is.
        column: usize,
    },
    /// A setting is out of its range.
    #[error("{name} is {value}; {range}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// Entries of a starting factor are NaN or infinite.
    #[error("the starting factor {name} has entries that are NaN or infinite")]
    StartNotFinite {
        /// `u`, `s` or `v`.
        name: &'static str,
    },
    /// A dense weight has another shape than the layer.
    #[error("the weight has shape {actual:?}, but the layer needs {expected:?}")]
    WeightShape {
        /// Its shape.
        actual: [usize; 2],
        /// The shape of the layer.
        expected: [usize; 2],
    },
    /// A starting factor has another shape than the matrices need.
    #[error("the starting factor {name} has shape {actual:?}, but the matrices need {expected:?}")]
    StartShape {
        /// `u`, `s` or `v`.
        name: &'static str,
        /// Its shape.
        actual: [usize; 4],
        /// The shape it should have.
        expected: [usize; 4],
    },
    /// A decomposition is of another matrix.
    #[error(
        "the decomposition is of a matrix of shape {actual:?}; it starts one matrix of that shape, not {matrices} of {expected:?}"
    )]
    SpectrumShape {
        /// The shape of the matrix that was decomposed.
        actual: [usize; 2],
        /// The matrices that are factorized.
        matrices: usize,
        /// Their shape.
        expected: [usize; 2],
    },
    /// The error of a matrix became NaN or infinite.
    #[error(
        "the factorization of matrix {matrix} diverged at step {step}: its error is NaN or infinite; use f64, a smaller \
         step, or the method `Auto`"
    )]
    Diverged {
        /// Which one of the batch.
        matrix: usize,
        /// The step.
        step: usize,
    },
    /// A Gram matrix could not be inverted.
    #[error(transparent)]
    Singular(#[from] SpdError),
    /// A second moment is not positive definite.
    #[error(
        "the second moment of the inputs is not positive definite; gather more inputs than features, or raise the \
         regularization"
    )]
    Moment,
    /// A second moment does not fit the matrices.
    #[error(
        "the second moment has shape {actual:?}, but {matrices} matrices of {features} columns need [{features}, {features}] each"
    )]
    MomentShape {
        /// Its shape.
        actual: [usize; 3],
        /// The number of matrices.
        matrices: usize,
        /// Their columns.
        features: usize,
    },
    /// Inputs have another number of features.
    #[error("the inputs have {actual} features, but those before had {expected}")]
    InputFeatures {
        /// Their features.
        actual: usize,
        /// The features there should be.
        expected: usize,
    },
    /// Inputs are NaN, infinite or too large.
    #[error(
        "inputs are NaN or infinite, or too large to be squared, in feature {feature}; leave the batch out, or run the model in f32"
    )]
    InputNotFinite {
        /// The first such feature.
        feature: usize,
    },
    /// A model has no dense layer of a name.
    #[error("the model has no dense structured layer of this name")]
    NoDenseLayer,
    /// A model's output is NaN or infinite.
    #[error("the model's output is NaN or infinite; look at its inputs, or run it in f32")]
    OutputNotFinite,
    /// An error in one layer of a model.
    #[error("layer {name}: {source}")]
    Layer {
        /// Its name.
        name: String,
        /// What.
        source: Box<CompressError>,
    },
    /// A file is not a valid file of moments.
    #[error("{path} cannot be used: {reason}")]
    Moments {
        /// Which one.
        path: String,
        /// Why.
        reason: String,
    },
    /// A curve of errors is invalid.
    #[error(
        "curve {layer} has no points, or an error or a sensitivity that is negative or not finite; measure the layer again"
    )]
    Curve {
        /// Which one.
        layer: usize,
    },
    /// The smallest choice of all layers is above the budget.
    #[error(
        "a budget of {budget} parameters is not enough: the layers take {fewest} at least; raise it, or offer lower ranks"
    )]
    Budget {
        /// The budget.
        budget: usize,
        /// The fewest parameters.
        fewest: usize,
    },
    /// The structure has no rank.
    #[error("{structure} has no rank to search; use blast, low-rank, monarch, pixelfly, gaudi, btt or kronecker")]
    NoRank {
        /// The structure.
        structure: Structure,
    },
    /// A singular value decomposition did not converge.
    #[error(
        "the singular values of a {rows}×{columns} matrix did not converge; its entries may be out of range, so try scaling it"
    )]
    NotConverged {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A plot could not be drawn.
    #[error("the plot {path} could not be drawn: {reason}")]
    Plot {
        /// Which one.
        path: String,
        /// Why.
        reason: String,
    },
}

/// `Err` unless the setting is a finite number of at least 0.
pub(crate) fn check_not_negative(name: &'static str, value: f64) -> Result<(), CompressError> {
    let range = "use a finite number of 0 or more";
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(CompressError::Setting { name, value, range }) }
}

/// `Err` unless the setting is a finite number above 0.
pub(crate) fn check_positive(name: &'static str, value: f64) -> Result<(), CompressError> {
    let range = "use a finite number above 0";
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(CompressError::Setting { name, value, range }) }
}
