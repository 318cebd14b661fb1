//! Factorization against reference runs, known optima and bad input.

mod calibrated;
mod invalid;
mod reference;
mod stream;
mod targets;

use burn::tensor::{Device, Tensor};

/// The default CPU backend.
fn device() -> Device {
    Device::flex()
}

/// A tensor of f64 values.
fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
    let data = burn::tensor::TensorData::new(values, shape);
    Tensor::from_data(data, (&device(), burn::tensor::DType::F64))
}
