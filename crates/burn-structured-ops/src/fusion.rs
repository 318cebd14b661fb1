//! What every operation tells fusion about its outputs before anything is computed.

use burn::backend::fusion::custom::TensorSpec;
use burn::tensor::Shape;

/// `spec` with another shape.
pub(crate) fn like(spec: &TensorSpec, shape: Shape) -> TensorSpec {
    let mut spec = spec.clone();
    spec.shape = shape;
    spec
}
