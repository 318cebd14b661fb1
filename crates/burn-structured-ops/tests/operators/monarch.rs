//! Monarch products, through the public functions, on every device.

use crate::tensors::{ReferenceFile, reference_files};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::block_diagonal::{BlockStrategy, Order};
use burn_structured_ops::device::{CompiledBackend, compiled};
use burn_structured_ops::monarch::{monarch_linear, monarch_linear_with, monarch_to_dense};

fn upload<const D: usize>(file: &ReferenceFile, name: &str, device: &Device, dtype: DType) -> Tensor<D> {
    let (shape, values) = file.tensor(name);
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// Compares with a reference; f32 rounds every operand once and every sum of `depth` products of three.
fn assert_reference<const D: usize>(what: &str, actual: Tensor<D>, file: &ReferenceFile, name: &str, depth: usize) {
    let dtype = actual.dtype();
    let (_, expected) = file.tensor(name);
    let actual: Vec<f64> = actual.into_data().convert::<f64>().try_into_vec().expect("f64 values");
    let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    let bound = match dtype {
        DType::F64 => 1e-10,
        _ => (depth + 3) as f64 * f32::EPSILON as f64 * largest * (depth as f64).sqrt(),
    };
    assert_eq!(actual.len(), expected.len(), "{what}, {name}");
    for (actual, expected) in actual.iter().zip(&expected) {
        assert!((actual - expected).abs() <= bound, "{what}, {name}: {actual} instead of {expected} (±{bound:e})");
    }
}

#[test]
fn every_fixture_is_reproduced() {
    for file in reference_files("monarch") {
        for (backend, dtype, strategies) in backends() {
            let name = backend.name;
            for strategy in strategies {
                for permuted in [false, true] {
                    let what = format!("{}, {name}, {dtype:?}, {strategy:?}, permuted {permuted}", file.name);
                    let device = backend.device(0).autodiff();
                    let x: Tensor<2> = upload(&file, "x", &device, dtype);
                    let x = if permuted { x.transpose().require_grad() } else { x.require_grad() };
                    let input = if permuted { x.clone().transpose() } else { x.clone() };
                    let w1: Tensor<3> = upload(&file, "w1", &device, dtype).require_grad();
                    let w2: Tensor<3> = upload(&file, "w2", &device, dtype).require_grad();
                    let y = monarch_linear_with(input, w1.clone(), w2.clone(), None, Order::Strided, strategy);
                    let ([k, q, p], [l, s, r]) = (w1.dims(), w2.dims());
                    let tokens = y.dims()[0];
                    assert_reference(&what, y.clone(), &file, "y", k * p * r / l.max(1) + r + p);
                    let grads = (y * upload(&file, "g", &device, dtype)).sum().backward();
                    let dx = x.grad(&grads).expect("a gradient");
                    let dx = if permuted { dx.transpose() } else { dx };
                    assert_reference(&what, dx, &file, "dx", s + q);
                    assert_reference(&what, w1.grad(&grads).expect("a gradient"), &file, "dw1", s + tokens);
                    assert_reference(&what, w2.grad(&grads).expect("a gradient"), &file, "dw2", p + tokens);
                }
            }
        }
    }
}

/// Every backend of the build, or those named in `BURN_STRUCTURED_DEVICES`, with its dtype and strategies.
fn backends() -> Vec<(CompiledBackend, DType, Vec<BlockStrategy>)> {
    let chosen = std::env::var("BURN_STRUCTURED_DEVICES").unwrap_or_default();
    let wanted = |backend: &CompiledBackend| chosen.is_empty() || chosen.split(',').any(|it| it == backend.name);
    let on = |backend: CompiledBackend| match backend.name {
        "flex" | "ndarray" => {
            vec![
                (backend, DType::F64, vec![BlockStrategy::Auto, BlockStrategy::Reference]),
                (backend, DType::F32, vec![BlockStrategy::Auto]),
            ]
        }
        // Burn's own matmul may be wrong on a software GPU; that of this crate has to be right everywhere.
        _ => vec![(backend, DType::F32, vec![BlockStrategy::TiledGemm])],
    };
    compiled().into_iter().filter(wanted).flat_map(on).collect()
}

#[test]
fn the_dense_matrix_is_that_of_the_fixtures() {
    for file in reference_files("monarch") {
        let device = Device::flex();
        let w1 = upload(&file, "w1", &device, DType::F64);
        let w2 = upload(&file, "w2", &device, DType::F64);
        assert_reference("flex", monarch_to_dense(w1, w2, Order::Strided), &file, "weight", 0);
    }
}

#[test]
fn a_bias_is_added_in_the_order_of_the_output() {
    let device = Device::flex();
    let bias = Tensor::<1>::from_data([1.0f32, 2.0, 3.0, 4.0], &device);
    let (r, l) = (Tensor::zeros([2, 2, 3], &device), Tensor::zeros([2, 2, 2], &device));
    for order in [Order::Grouped, Order::Strided] {
        let y = monarch_linear(Tensor::<2>::ones([1, 6], &device), r.clone(), l.clone(), Some(bias.clone()), order);
        y.squeeze_dim::<1>(0).into_data().assert_eq(&bias.to_data(), true);
    }
}

#[test]
#[should_panic(expected = "must read the k · q = 4 features")]
fn unfit_factors_panic() {
    let device = Device::flex();
    let (r, l) = (Tensor::zeros([2, 2, 3], &device), Tensor::zeros([3, 2, 2], &device));
    monarch_linear(Tensor::<2>::ones([1, 6], &device), r, l, None, Order::Strided);
}
