//! The errors of this crate. Each message names the culprit and what to do.

use crate::pipeline::PipelineError;
use crate::plan::PlanError;
use burn_structured_checkpoint::CheckpointError;
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
        "the second moment of the inputs is not positive definite; calibrate on more text, or compress without any"
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
    /// There are no batches.
    #[error("there are no batches to calibrate, to measure or to train with; pass at least one of each kind")]
    NoBatches,
    /// A layer was not applied to any batch.
    #[error("the layer was not applied to any batch; the model's groups of layers have to name what its blocks apply")]
    NoInputs,
    /// The inputs of two models are not those of the same tokens.
    #[error("the dense layer has {dense} inputs, the compressed one {compressed}; both have to be of the same tokens")]
    Pairs {
        /// Inputs of the dense layer.
        dense: usize,
        /// Inputs of the compressed one.
        compressed: usize,
    },
    /// What a layer's outputs are added to does not fit them.
    #[error(
        "the residual of shape {actual:?} does not fit the layer's outputs of shape {expected:?}; the model's `residual` has to give \
         what they are added to, or none, for every batch"
    )]
    Residual {
        /// Its shape; zeros if there is none.
        actual: [usize; 2],
        /// The shape of the outputs.
        expected: [usize; 2],
    },
    /// The features are in front of another block.
    #[error(
        "block {block} of {blocks} cannot be next: the features are in front of block {features}; go block after block"
    )]
    Block {
        /// The block that was to be compressed.
        block: usize,
        /// The block that the features are in front of.
        features: usize,
        /// The number of blocks.
        blocks: usize,
    },
    /// There is not one structure for each linear layer of a block.
    #[error(
        "there are {actual} structures for the {expected} linear layers of the block; pass one for each, or none to keep it"
    )]
    Structures {
        /// The number of structures.
        actual: usize,
        /// The number of layers.
        expected: usize,
    },
    /// The blocks of two models do not match.
    #[error(
        "the student's {student} blocks cannot imitate blocks {blocks:?} of the teacher's {teacher}; name one for each"
    )]
    Imitated {
        /// Blocks of the student.
        student: usize,
        /// Blocks of the teacher.
        teacher: usize,
        /// The blocks to imitate.
        blocks: Vec<usize>,
    },
    /// The loss of a training became NaN or infinite.
    #[error("the training diverged: its loss is NaN or infinite at a learning rate of {rate}; use a lower one")]
    Training {
        /// The learning rate of the last step.
        rate: f64,
    },
    /// An observer ended the work.
    #[error("interrupted")]
    Interrupted,
    /// An error in one layer of a model.
    #[error("layer {name}: {source}")]
    Layer {
        /// Its name.
        name: String,
        /// What.
        source: Box<CompressError>,
    },
    /// A calibration of another model.
    #[error(
        "the calibration knows none of the {layers} layers, such as {layer}{}; pass one of the same model",
        if known.is_empty() { String::new() } else { format!("; it knows {known}") }
    )]
    Calibration {
        /// How many layers are needed.
        layers: usize,
        /// One of them.
        layer: String,
        /// A layer that it knows, if there is one.
        known: String,
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
    /// A plan cannot be read, made or used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A run cannot start, continue or end.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A checkpoint cannot be read, used or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A plot could not be drawn.
    #[error("the plot {path} could not be drawn: {reason}")]
    Plot {
        /// Which one.
        path: String,
        /// Why.
        reason: String,
    },
}

impl CompressError {
    /// This error with the name of the layer that it is about.
    pub(crate) fn in_layer(self, name: &str) -> Self {
        match self {
            // They say it themselves, or are about no layer.
            Self::Interrupted | Self::Layer { .. } | Self::Plan(_) | Self::Pipeline(_) => self,
            source => Self::Layer { name: name.to_string(), source: Box::new(source) },
        }
    }
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
