//! The result of a factorization.

use super::{BlastFactors, StopReason, TracePoint};
use burn::tensor::Tensor;
use burn_structured_nn::BlastLinear;

/// The factors found for a batch of matrices.
#[derive(Clone, Debug)]
pub struct Factorization {
    /// The best factors of each matrix, in the scale and the type of the given matrices.
    pub factors: BlastFactors,
    /// The errors from the start to the last step. Those of a matrix that has stopped stay constant.
    pub trace: Vec<TracePoint>,
    /// Why the steps of each matrix stopped.
    pub stop_reasons: Vec<StopReason>,
    /// The errors of `factors`.
    pub(super) errors: Vec<f64>,
    /// The step after which each matrix stopped.
    pub(super) steps: Vec<usize>,
}

impl Factorization {
    /// `‖W − A‖ / ‖A‖` of each matrix, in the metric of the factorization; `‖W‖` where `A` is zero.
    pub fn errors(&self) -> &[f64] {
        &self.errors
    }

    /// One matrix of the batch as a layer.
    ///
    /// # Panics
    ///
    /// If `matrix` is not below the number of matrices, or the bias is not `[d_output]`.
    pub fn layer(&self, matrix: usize, bias: Option<Tensor<1>>) -> BlastLinear {
        self.factors.layer(matrix, bias)
    }

    /// One factorization for each matrix of the batch, with its own trace up to where it stopped. The seconds are those of the
    /// batch.
    pub fn into_matrices(self) -> impl Iterator<Item = Factorization> {
        (0..self.factors.matrices()).map(move |matrix| Self {
            factors: self.factors.matrix(matrix),
            trace: self.trace[..=self.steps[matrix]]
                .iter()
                .map(|point| TracePoint { errors: vec![point.errors[matrix]], ..*point })
                .collect(),
            stop_reasons: vec![self.stop_reasons[matrix]],
            errors: vec![self.errors[matrix]],
            steps: vec![self.steps[matrix]],
        })
    }
}
