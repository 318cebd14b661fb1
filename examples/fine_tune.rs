//! A trained layer is compressed, which costs accuracy, and trained on, which brings most of it back.
//!
//! ```text
//! cargo run --release --features approximation --example fine_tune
//! ```

#![allow(clippy::print_stdout, reason = "a command-line program")]

use burn::nn::LinearConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor, activation::gelu};
use burn_structured::nn::{Structure, StructuredLinear};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    // The model: two layers, of which the first is to become smaller. Its own outputs are the target: no labels are needed.
    let (first, second) = (LinearConfig::new(64, 256).init(&device), LinearConfig::new(256, 64).init(&device));
    // Inputs have a structure that the weights do not show: 16 directions of 64.
    let directions = Tensor::<2>::random([16, 64], Distribution::Normal(0.0, 1.0), &device);
    let inputs = |rows: usize| {
        Tensor::<2>::random([rows, 16], Distribution::Normal(0.0, 0.25), &device).matmul(directions.clone())
    };
    let target = |x: Tensor<2>| second.forward(gelu(first.forward(x))).detach();

    let structure: Structure = "blast:b=4,ratio=0.4".parse()?;
    let approximation = structure.approximate(&first)?;
    println!("{}: relative error of the weight {:.3}", approximation.layer, approximation.relative_error);

    // Only the small layer is trained. The second one passes gradients on and stays as it is.
    let mut small: StructuredLinear = approximation.layer;
    let output = |layer: &StructuredLinear, x: Tensor<2>| second.forward(gelu(layer.forward(x)));
    let held_out = inputs(512);
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..=200 {
        if step % 50 == 0 {
            let (expected, found) = (target(held_out.clone()), output(&small, held_out.clone()));
            let error = (found - expected.clone()).square().sum().sqrt() / expected.square().sum().sqrt();
            println!("step {step:>3}: relative error of the output {:.4}", error.into_scalar::<f32>());
        }
        let x = inputs(128);
        let loss = (output(&small, x.clone()) - target(x)).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &small);
        small = optimizer.step(2e-3, small, gradients);
    }
    Ok(())
}
