//! What a factorization found.

use super::{BlastFactors, Ended, TracePoint};
use burn::tensor::Tensor;
use burn_structured_nn::BlastLinear;

/// The factors found for a batch of matrices.
#[derive(Clone, Debug)]
pub struct Factorization {
    /// The best factors of each matrix, in the scale and the type of the given ones.
    pub factors: BlastFactors,
    /// The run, from the start on. The errors of a matrix that is done stay what they were.
    pub trace: Vec<TracePoint>,
    /// Why it ended, for each matrix.
    pub ended: Vec<Ended>,
    /// The errors of `factors`.
    pub(super) errors: Vec<f64>,
    /// The step after which each matrix was done.
    pub(super) steps: Vec<usize>,
}

impl Factorization {
    /// `‖W − A‖ / ‖A‖` of each matrix, in the metric that was asked for; `‖W‖` where `A` is zero.
    pub fn errors(&self) -> &[f64] {
        &self.errors
    }

    /// One matrix of the batch as a layer.
    ///
    /// # Panics
    ///
    /// If there are not so many matrices, or the bias is not `[d_output]`.
    pub fn layer(&self, matrix: usize, bias: Option<Tensor<1>>) -> BlastLinear {
        self.factors.layer(matrix, bias)
    }

    /// Every matrix of the batch by itself, with its own trace up to where it was done. The seconds are those of the batch.
    pub fn into_matrices(self) -> impl Iterator<Item = Factorization> {
        (0..self.factors.matrices()).map(move |matrix| Self {
            factors: self.factors.matrix(matrix),
            trace: self.trace[..=self.steps[matrix]]
                .iter()
                .map(|point| TracePoint { errors: vec![point.errors[matrix]], ..*point })
                .collect(),
            ended: vec![self.ended[matrix]],
            errors: vec![self.errors[matrix]],
            steps: vec![self.steps[matrix]],
        })
    }
}
