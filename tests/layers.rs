//! Layers through the public tensor interface, on every device of the build: dispatch, autodiff and fusion included.

#![allow(clippy::print_stdout, reason = "a failed test says which case it was at")]

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use burn_structured::ops::device;

const STRUCTURES: [&str; 7] = [
    "dense",
    "blast:b=2,r=5",
    "blast:b=3x4,r=7",
    "blast:b=1,r=1",
    "low-rank:r=4",
    "ss1:c=2,k=5,n=7",
    "ss1:c=3,k=4,n=8,hash=independent",
];
const D_INPUT: usize = 24;
const D_OUTPUT: usize = 18;

/// The devices of this build whose own matmul is right: SwiftShader, for one, returns zeros for Burn's.
fn devices() -> Vec<(&'static str, Device)> {
    let named = |name| (name, device::named(name).unwrap_or_else(|error| panic!("{error}")));
    device::names().into_iter().map(named).filter(|(name, device)| matmul_is_right(name, device)).collect()
}

fn matmul_is_right(name: &str, device: &Device) -> bool {
    let product = Tensor::<3>::ones([2, 5, D_INPUT], device).matmul(Tensor::ones([2, D_INPUT, D_OUTPUT], device));
    let right = product.into_data().iter::<f32>().all(|value| value == D_INPUT as f32);
    if !right {
        println!("{name}: Burn's own matmul is wrong on this device; layers skipped");
    }
    right
}

fn input(device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..2 * 5 * D_INPUT).map(|index| ((index * 37 % 101) as f32 - 50.0) / 50.0).collect();
    Tensor::from_data(TensorData::new(values, [2, 5, D_INPUT]), device)
}

fn layer(structure: Structure, device: &Device) -> StructuredLinear {
    device.seed(1);
    StructuredLinearConfig::new(D_INPUT, D_OUTPUT, structure).init(device)
}

#[test]
fn every_layer_is_the_product_with_its_dense_weight() {
    for (name, device) in devices() {
        for structure in STRUCTURES {
            let layer = StructuredLinearConfig::new(D_INPUT, D_OUTPUT, structure.parse().unwrap())
                .with_bias(false)
                .init(&device);
            let x = input(&device);
            // With fusion, the products run between element-wise operations that a device may merge.
            let y = layer.forward(x.clone() * 2.0 - 1.0) + 0.5;
            let dense = (x * 2.0 - 1.0).matmul(layer.to_dense().transpose().unsqueeze()) + 0.5;
            let tolerance = Tolerance::absolute(1e-4).set_half_precision_absolute(1e-2);
            println!("{name}, {structure}");
            y.into_data().assert_approx_eq::<f32>(&dense.into_data(), tolerance);
        }
    }
}

/// The gradient of every parameter and of the input, in a fixed order.
fn gradients(layer: &StructuredLinear, x: Tensor<3>) -> Vec<TensorData> {
    let x = x.require_grad();
    let grads = layer.forward(x.clone()).powf_scalar(2.0).sum().backward();
    let of3 = |param: &Param<Tensor<3>>| param.grad(&grads).expect("a gradient").into_data();
    let of2 = |param: &Param<Tensor<2>>| param.grad(&grads).expect("a gradient").into_data();
    let mut all = vec![x.grad(&grads).expect("a gradient").into_data()];
    match layer {
        StructuredLinear::Dense(layer) => all.push(of2(&layer.weight)),
        StructuredLinear::Blast(layer) => all.extend([of3(&layer.u), of3(&layer.s), of3(&layer.v)]),
        StructuredLinear::LowRank(layer) => all.extend([of2(&layer.v), of2(&layer.ut)]),
        StructuredLinear::Ss1(layer) => all.push(of2(&layer.z)),
        other => panic!("no gradients listed for {other:?}"),
    }
    all
}

#[test]
fn every_device_computes_the_same_gradients() {
    let flex = Device::flex().autodiff();
    for structure in STRUCTURES {
        let reference = layer(structure.parse().unwrap(), &flex);
        let expected = gradients(&reference, input(&flex));
        for (name, device) in devices() {
            let device = device.autodiff();
            let moved = reference.clone().fork(&device);
            for (index, (actual, expected)) in gradients(&moved, input(&device)).iter().zip(&expected).enumerate() {
                println!("{name}, {structure}, gradient {index}");
                actual.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-4, 1e-3));
            }
        }
    }
}

#[test]
fn a_step_of_training_lowers_the_loss() {
    use burn::optim::{GradientsParams, SgdConfig};
    for (name, device) in devices() {
        let device = device.autodiff();
        for structure in STRUCTURES {
            let mut layer = layer(structure.parse().unwrap(), &device);
            let mut optimizer = SgdConfig::new().init();
            let loss = |layer: &StructuredLinear| (layer.forward(input(&device)) - 1.0).powf_scalar(2.0).mean();
            let before = loss(&layer);
            let grads = GradientsParams::from_grads(before.backward(), &layer);
            let before = before.into_scalar::<f32>();
            layer = optimizer.step(1e-2, layer, grads);
            let after = loss(&layer).into_scalar::<f32>();
            assert!(after < before, "{name}, {structure}: {before} → {after}");
        }
    }
}
