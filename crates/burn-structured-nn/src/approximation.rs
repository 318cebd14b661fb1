//! The nearest layer of a structure to a dense one, with its distance.

use burn::tensor::Tensor;

/// A structured layer that stands in for a dense weight.
#[derive(Clone, Debug)]
pub struct Approximation<L> {
    /// The layer.
    pub layer: L,
    /// `‖Ŵ − W‖ / ‖W‖` in the Frobenius norm; 0 if `W` is zero and represented exactly.
    pub relative_error: f64,
}

/// `‖approximation − weight‖ / ‖weight‖`.
pub(crate) fn relative_error(approximation: Tensor<2>, weight: Tensor<2>) -> f64 {
    let norm = |matrix: Tensor<2>| matrix.powf_scalar(2.0).sum().into_scalar::<f64>().sqrt();
    let error = norm(approximation - weight.clone());
    if error == 0.0 { 0.0 } else { error / norm(weight) }
}
