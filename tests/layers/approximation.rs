//! `from_dense`: the nearest layer, how near it is, and what cannot be approximated.

use crate::table::{D_INPUT, D_OUTPUT, TABLE};
use burn::nn::LinearConfig;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use burn_structured::nn::{Structure, StructureError};

fn norm(matrix: Tensor<2>) -> f64 {
    matrix.powf_scalar(2.0).sum().into_scalar::<f64>().sqrt()
}

#[test]
fn matrices_of_the_structure_are_recovered() {
    let device = Device::flex();
    for entry in &TABLE {
        let weight = crate::parameters::cast(entry.layer(&device), DType::F64).to_dense();
        let approximation = entry.config().from_dense(weight, None).expect("finite weights");
        let error = approximation.relative_error;
        assert!(error <= entry.recovery, "{}: {error:e}", entry.structure);
        assert_eq!(approximation.layer.cost().params, entry.weights, "{}", entry.structure);
    }
}

#[test]
fn errors_are_measured_and_below_that_of_nothing() {
    let device = Device::flex();
    device.seed(2);
    let weight = Tensor::<2>::random([D_OUTPUT, D_INPUT], Distribution::Normal(0.0, 1.0), &device);
    for entry in &TABLE {
        let approximation = entry.config().from_dense(weight.clone(), None).expect("finite weights");
        let measured = norm(approximation.layer.to_dense() - weight.clone()) / norm(weight.clone());
        assert!((approximation.relative_error - measured).abs() < 1e-5, "{}", entry.structure);
        // Zero factors are within every structure.
        assert!(measured < 1.0, "{}: {measured}", entry.structure);
    }
}

#[test]
fn errors_are_right_in_half_precision() {
    let device = Device::flex();
    device.seed(4);
    for scale in [1e-3, 30.0] {
        let weight = Tensor::<2>::random([D_OUTPUT, D_INPUT], Distribution::Normal(0.0, scale), &device);
        for dtype in [DType::F16, DType::BF16] {
            let config = TABLE[4].config();
            let exact = config.from_dense(weight.clone(), None).expect("finite weights").relative_error;
            let half = config.from_dense(weight.clone().cast(dtype), None).expect("finite weights").relative_error;
            assert!((half - exact).abs() < 0.02, "{dtype:?}, scale {scale}: {half} and {exact}");
        }
    }
}

#[test]
fn a_zero_matrix_is_itself() {
    for entry in &TABLE {
        let zero = Tensor::<2>::zeros([D_OUTPUT, D_INPUT], &Device::flex());
        let approximation = entry.config().from_dense(zero.clone(), None).expect("finite weights");
        assert_eq!(approximation.relative_error, 0.0, "{}", entry.structure);
        assert_eq!(norm(approximation.layer.to_dense()), 0.0, "{}", entry.structure);
    }
}

#[test]
fn a_trained_layer_keeps_its_bias() {
    let device = Device::flex();
    let trained = LinearConfig::new(D_INPUT, D_OUTPUT).init(&device);
    let bias = trained.bias.as_ref().expect("a bias").val();
    for entry in &TABLE {
        let structure: Structure = entry.structure.parse().expect("a structure");
        let layer = structure.approximate(&trained).expect("finite weights").layer;
        let output = layer.forward(Tensor::<2>::zeros([1, D_INPUT], &device));
        output.squeeze_dim::<1>(0).into_data().assert_eq(&bias.to_data(), true);
    }
}

#[test]
fn what_is_wrong_with_a_weight_is_named() {
    let device = Device::flex();
    for entry in &TABLE {
        let error = |weight: Tensor<2>, bias| entry.config().from_dense(weight, bias).map(|_| ()).unwrap_err();
        let mut values = vec![1.0f32; D_OUTPUT * D_INPUT];
        values[2 * D_INPUT + 5] = f32::NAN;
        values[3 * D_INPUT] = f32::INFINITY;
        let weight = Tensor::from_data(TensorData::new(values, [D_OUTPUT, D_INPUT]), &device);
        assert_eq!(
            error(weight, None),
            StructureError::NotFinite { count: 2, row: 2, column: 5 },
            "{}",
            entry.structure
        );
        let transposed = error(Tensor::zeros([D_INPUT, D_OUTPUT], &device), None).to_string();
        assert_eq!(transposed, "the weight to approximate has shape [24, 18], but the layer needs [18, 24]");
        let bias = Some(Tensor::<1>::zeros([3], &device));
        let bias = error(Tensor::zeros([D_OUTPUT, D_INPUT], &device), bias).to_string();
        assert_eq!(bias, "the bias to approximate has shape [3], but the layer needs [18]");
    }
}
