//! Output shapes, which fusion needs before anything is computed.

use crate::fusion::like;
use burn::backend::fusion::custom::TensorSpec;
use burn::tensor::Shape;

pub(super) fn product(x: &TensorSpec, w: &TensorSpec) -> TensorSpec {
    like(x, Shape::new([x.shape[0], w.shape[0] * w.shape[1]]))
}

pub(super) fn gradient(x: &TensorSpec, dy: &TensorSpec, blocks: usize) -> TensorSpec {
    like(x, Shape::new([blocks, dy.shape[1] / blocks, x.shape[1] / blocks]))
}
