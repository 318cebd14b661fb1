//! Gradients: against finite differences in f64, and alike on every device.

use crate::devices::{devices, trigonometry};
use crate::parameters::{cast, gradients, perturbed, values};
use crate::table::{D_INPUT, D_OUTPUT, TABLE};
use burn::tensor::{DType, Device, Tensor, TensorData, Tolerance};
use burn_structured::nn::StructuredLinear;

const TOKENS: usize = 3;

fn draw(shape: [usize; 2], salt: usize, device: &Device, dtype: DType) -> Tensor<2> {
    let length = shape[0] * shape[1];
    let values: Vec<f64> = (0..length).map(|index| ((index * 37 + salt) % 101) as f64 / 50.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// `sum(y ∘ g)`, which is linear in each single weight.
fn loss(layer: &StructuredLinear, x: Tensor<2>) -> Tensor<1> {
    let g = draw([TOKENS, D_OUTPUT], 5, &x.device(), x.dtype());
    (layer.forward(x) * g).sum()
}

fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.into_scalar::<f64>()
}

#[test]
fn gradients_are_finite_differences() {
    for (name, device) in devices().into_iter().filter(|(name, _)| ["flex", "ndarray"].contains(name)) {
        let tracked = device.clone().autodiff();
        for entry in &TABLE {
            let layer = cast(entry.layer(&tracked), DType::F64);
            let x = draw([TOKENS, D_INPUT], 1, &tracked, DType::F64).require_grad();
            let grads = loss(&layer, x.clone()).backward();
            let plain = cast(entry.layer(&device), DType::F64);
            let input = draw([TOKENS, D_INPUT], 1, &device, DType::F64);

            // Windows are the one thing that a loss is not linear in.
            let windows = entry.structure.starts_with("gaudi");
            let (step, tolerance) = if windows { (1e-5, 1e-6) } else { (1e-2, 1e-9) };
            let close = |what: &str, actual: f64, plus: f64, minus: f64| {
                let expected = (plus - minus) / (2.0 * step);
                let bound = tolerance * (1.0 + expected.abs());
                assert!(
                    (actual - expected).abs() <= bound,
                    "{name}, {}, {what}: {actual} against {expected}",
                    entry.structure
                );
            };

            let dx: Vec<f64> = x.grad(&grads).expect("a gradient").into_data().iter::<f64>().collect();
            let values_of_x: Vec<f64> = input.to_data().iter::<f64>().collect();
            for (index, actual) in dx.iter().enumerate() {
                let at = |step: f64| {
                    let mut changed = values_of_x.clone();
                    changed[index] += step;
                    let data = TensorData::new(changed, [TOKENS, D_INPUT]);
                    scalar(loss(&plain, Tensor::from_data(data, (&device, DType::F64))))
                };
                close(&format!("x[{index}]"), *actual, at(step), at(-step));
            }
            for (parameter, gradient) in gradients(&layer, &grads).iter().enumerate() {
                for (index, actual) in gradient.iter::<f64>().enumerate() {
                    let at = |step: f64| scalar(loss(&perturbed(plain.clone(), parameter, index, step), input.clone()));
                    close(&format!("parameter {parameter}[{index}]"), actual, at(step), at(-step));
                }
            }
        }
    }
}

#[test]
fn every_device_computes_the_same_gradients() {
    let flex = Device::flex().autodiff();
    for entry in &TABLE {
        let of = |device: &Device| {
            let layer = entry.layer(device);
            let x = draw([TOKENS, D_INPUT], 1, device, DType::F32).require_grad();
            let grads = loss(&layer, x.clone()).backward();
            let mut all = vec![x.grad(&grads).expect("a gradient").into_data()];
            all.extend(gradients(&layer, &grads));
            assert_eq!(all.len(), 1 + values(&layer).len());
            all
        };
        let expected = of(&flex);
        for (name, device) in devices() {
            for (index, (actual, expected)) in of(&device.autodiff()).iter().zip(&expected).enumerate() {
                println!("{name}, {}, gradient {index}", entry.structure);
                // Only the masks of a Gaudi layer have sines and cosines: two masks a weight, both functions in each.
                let masks = if entry.structure.starts_with("gaudi") { 4.0 * trigonometry(name) as f32 } else { 0.0 };
                actual.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-4 + masks, 1e-4 + masks));
            }
        }
    }
}

/// What was approximated from dense weights has to be trainable as well.
#[test]
fn approximations_are_trained_like_any_layer() {
    let device = Device::flex().autodiff();
    let weight = draw([D_OUTPUT, D_INPUT], 9, &device, DType::F32);
    for entry in &TABLE {
        let bias = Some(Tensor::<1>::zeros([D_OUTPUT], &device));
        let layer = entry.config().from_dense(weight.clone(), bias).expect("finite weights").layer;
        let grads = loss(&layer, draw([TOKENS, D_INPUT], 1, &device, DType::F32)).backward();
        let gradients = gradients(&layer, &grads);
        assert_eq!(gradients.len(), values(&layer).len(), "{}", entry.structure);
        assert!(
            gradients.iter().any(|gradient| gradient.iter::<f32>().any(|value| value != 0.0)),
            "{}",
            entry.structure
        );
    }
}
