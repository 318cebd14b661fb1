//! Gaussian noise that a seed decides, the same on every device.

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Images of independent standard normal values, drawn on the host.
pub fn gaussian(shape: [usize; 4], rng: &mut impl Rng, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| StandardNormal.sample(rng)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
