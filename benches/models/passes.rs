//! What one pass and one training step of a model do.

use crate::harness::measure::{Rotation, Work};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};

const LEARNING_RATE: f64 = 1e-3;
/// Inputs that take turns.
const INPUTS: usize = 4;

fn inputs<const D: usize>(shape: [usize; D], device: &Device) -> Rotation<Tensor<D>> {
    Rotation::filling(INPUTS, 1, |_| Tensor::random(shape, Distribution::Normal(0.0, 1.0), device))
}

/// One pass without gradients, on random inputs.
pub fn inference<M: Send + 'static, const D: usize, const O: usize>(
    model: M,
    shape: [usize; D],
    device: &Device,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<O> + Send + 'static,
) -> Work<'static> {
    let (mut inputs, device) = (inputs(shape, device), device.clone());
    Work::new(move || {
        let y = forward(&model, inputs.next().clone());
        device.sync().expect("the device answers");
        drop(std::hint::black_box(y));
    })
}

/// Forward, backward and a step of AdamW, on random inputs.
pub fn training<M: Module + 'static, const D: usize>(
    model: M,
    shape: [usize; D],
    device: &Device,
    loss: impl Fn(&M, Tensor<D>) -> Tensor<1> + Send + 'static,
) -> Work<'static> {
    let (mut inputs, device) = (inputs(shape, device), device.clone());
    let (mut model, mut optimizer) = (Some(model), AdamWConfig::new().init());
    Work::new(move || {
        let current = model.take().expect("put back by every step");
        let gradients = loss(&current, inputs.next().clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &current);
        model = Some(optimizer.step(LEARNING_RATE, current, gradients));
        device.sync().expect("the device answers");
    })
}
