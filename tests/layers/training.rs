//! Layers in a training loop.

use crate::devices::devices;
use crate::table::{D_INPUT, TABLE};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured::nn::StructuredLinear;

fn input(device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..2 * 5 * D_INPUT).map(|index| ((index * 37 % 101) as f32 - 50.0) / 50.0).collect();
    Tensor::from_data(TensorData::new(values, [2, 5, D_INPUT]), device)
}

#[test]
fn a_step_of_training_lowers_the_loss() {
    for (name, device) in devices() {
        let device = device.autodiff();
        for entry in &TABLE {
            let mut layer = entry.layer(&device);
            let mut optimizer = SgdConfig::new().init();
            let loss = |layer: &StructuredLinear| (layer.forward(input(&device)) - 1.0).powf_scalar(2.0).mean();
            let before = loss(&layer);
            let grads = GradientsParams::from_grads(before.backward(), &layer);
            let before = before.into_scalar::<f32>();
            layer = optimizer.step(1e-2, layer, grads);
            let after = loss(&layer).into_scalar::<f32>();
            assert!(after < before, "{name}, {}: {before} → {after}", entry.structure);
        }
    }
}
