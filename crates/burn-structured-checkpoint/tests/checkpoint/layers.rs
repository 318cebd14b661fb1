//! Dense tensors and layers.

use crate::build::{checkpoint, counting, floats, of_tensors};
use burn::tensor::{Device, Tensor};
use burn_structured_checkpoint::{dense_layer, layer, layer_tensors, linears, tensor};
use burn_structured_nn::StructuredLinear;
use std::collections::BTreeMap;

#[test]
fn tensor_checks_the_number_of_axes() {
    let device = Device::flex();
    let file = checkpoint(&[("a", &[2, 3])]);
    assert_eq!(tensor::<2>(&file, "a", &device).unwrap().dims(), [2, 3]);
    let message = tensor::<1>(&file, "a", &device).unwrap_err().to_string();
    assert!(message.contains("a has shape [2, 3] instead of a shape of 1 axes"), "{message}");
    assert!(tensor::<1>(&file, "b", &device).unwrap_err().to_string().contains("has no tensor b"));
}

#[test]
fn dense_layer_is_out_by_in_whatever_the_file() {
    let device = Device::flex();
    let file = checkpoint(&[
        ("h.0.attn.c_attn.weight", &[2, 6]),
        ("h.0.attn.c_attn.bias", &[6]),
        ("h.0.mlp.c_proj.weight", &[8, 2]),
    ]);
    let found = linears(&file);
    let (weight, bias) = dense_layer(&file, &found[0], &device).unwrap();
    assert_eq!((weight.dims(), bias.unwrap().dims()), ([6, 2], [6]));
    let column: Vec<f32> = weight.into_data().iter::<f32>().collect();
    assert_eq!(column[..4], [0.0, 6.0, 1.0, 7.0]);
    let (weight, bias) = dense_layer(&file, &found[1], &device).unwrap();
    assert!(weight.dims() == [2, 8] && bias.is_none());
    let mut wrong = found[0].clone();
    wrong.d_input = 3;
    let message = dense_layer(&file, &wrong, &device).unwrap_err().to_string();
    assert!(message.contains("h.0.attn.c_attn.weight has shape [2, 6] instead of [3, 6]"), "{message}");
}

#[test]
fn layer_reads_dense_layers_in_both_orientations() {
    let device = Device::flex();
    let file = of_tensors(
        &[
            floats("fc.weight", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            floats("fc.bias", &[2], &[0.5, -0.5]),
            floats("h.0.attn.c_attn.weight", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ],
        &BTreeMap::new(),
    );
    let forward = |name: &str, x: &[f32]| -> Vec<f32> {
        let x = Tensor::<1>::from_data(x, &device).unsqueeze::<2>();
        layer(&file, name, &device).unwrap().forward(x).into_data().iter::<f32>().collect()
    };
    assert_eq!(forward("fc", &[1.0, 0.0, 1.0]), [4.5, 9.5]);
    assert_eq!(forward("h.0.attn.c_attn", &[1.0, 1.0]), [5.0, 7.0, 9.0]);
    // A dense layer is written as `[d_output, d_input]`.
    let read = layer(&file, "fc", &device).unwrap();
    assert!(matches!(read, StructuredLinear::Dense(_)));
    let again = of_tensors(&layer_tensors("fc", &read), &BTreeMap::new());
    assert_eq!(again.tensor("fc.weight").unwrap().shape, [2, 3]);
    assert_eq!(again.values("fc.weight").unwrap(), file.values("fc.weight").unwrap());
}

#[test]
fn layer_names_what_is_not_there() {
    let device = Device::flex();
    let ints = burn_structured_checkpoint::TensorData {
        dtype: burn_structured_checkpoint::Dtype::I32,
        ..counting("i.weight", &[2, 2])
    };
    let file = of_tensors(&[counting("norm.weight", &[3]), counting("e.weight", &[0, 3]), ints], &BTreeMap::new());
    for (name, expected) in [
        ("fc", "has no tensor fc.weight"),
        ("norm", "norm.weight has shape [3] instead of a matrix that is not empty"),
        ("e", "e.weight has shape [0, 3] instead of a matrix that is not empty"),
        ("i", "i.weight holds I32, but only F64, F32, F16 and BF16 can be read here"),
    ] {
        let message = layer(&file, name, &device).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
