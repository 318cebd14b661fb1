//! The nearest layer of a structure to a dense one, with its distance: `from_dense` of every layer, on the host and in f64.

mod blast;
mod block_diagonal;
mod block_low_rank;
mod factorization;
mod gaudi;
mod kronecker;
mod low_rank;
mod pixelfly;
mod ss1;
pub mod svd;

use crate::StructureError;
use burn::tensor::Tensor;

/// A structured layer that stands in for a dense weight.
#[derive(Clone, Debug)]
pub struct Approximation<L> {
    /// The layer.
    pub layer: L,
    /// `‖Ŵ − W‖ / ‖W‖` in the Frobenius norm; 0 if `W` is zero and represented exactly.
    pub relative_error: f64,
}

impl<L> Approximation<L> {
    /// The layer with its distance, measured on the dense weight that it multiplies by.
    pub(crate) fn measured(layer: L, to_dense: impl Fn(&L) -> Tensor<2>, weight: Tensor<2>) -> Self {
        // In f64 on the host: squares of half-precision differences vanish, and their sums overflow.
        let read = |matrix: Tensor<2>| matrix.into_data().iter::<f64>().collect::<Vec<_>>();
        let (dense, weight) = (read(to_dense(&layer)), read(weight));
        let error: f64 = dense.iter().zip(&weight).map(|(dense, weight)| (dense - weight).powi(2)).sum();
        let norm: f64 = weight.iter().map(|weight| weight.powi(2)).sum();
        let relative_error = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
        Self { layer, relative_error }
    }

    /// The same distance with another layer around the one it was measured on.
    pub(crate) fn map<M>(self, wrap: impl FnOnce(L) -> M) -> Approximation<M> {
        Approximation { layer: wrap(self.layer), relative_error: self.relative_error }
    }
}

/// The entries of a dense weight on the host, row by row.
///
/// # Errors
///
/// If the weight is not `[d_output, d_input]`, the bias not `[d_output]`, or an entry of the weight is no number.
pub(crate) fn read_weight(
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    d_input: usize,
    d_output: usize,
) -> Result<Vec<f64>, StructureError> {
    if weight.dims() != [d_output, d_input] {
        let (actual, expected) = (weight.dims().to_vec(), vec![d_output, d_input]);
        return Err(StructureError::WeightShape { name: "weight", actual, expected });
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [d_output]) {
        let (actual, expected) = (bias.dims().to_vec(), vec![d_output]);
        return Err(StructureError::WeightShape { name: "bias", actual, expected });
    }
    let values: Vec<f64> = weight.to_data().iter::<f64>().collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(first) => {
            let count = values.iter().filter(|value| !value.is_finite()).count();
            Err(StructureError::NotFinite { count, row: first / d_input, column: first % d_input })
        }
    }
}
