//! A Llama on every device against what NumPy computes in float64; see `generate.py` beside the fixture.

use crate::devices::devices;
use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};
use burn_structured::models::decoder::Decoder;
use burn_structured::models::llama::{Llama, LlamaConfig};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// Roundoff of some thousand additions of numbers up to 10 in f32.
const TOLERANCE: f32 = 1e-4;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/burn-structured-models/tests/fixtures/llama")
}

/// A tensor of `expected.safetensors`.
fn expected(name: &str) -> TensorData {
    let bytes = std::fs::read(fixture().join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let dtype = match tensor.dtype() {
        Dtype::F64 => burn::tensor::DType::F64,
        Dtype::I32 => burn::tensor::DType::I32,
        other => panic!("the fixture holds no {other:?}"),
    };
    TensorData::from_bytes_vec(tensor.data().to_vec(), tensor.shape().to_vec(), dtype)
}

fn tokens(device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(expected("tokens"), device)
}

fn assert_near(found: Tensor<3>, expected: &TensorData, what: &str) {
    println!("{what}");
    found.into_data().convert::<f32>().assert_approx_eq::<f32>(expected, Tolerance::absolute(TOLERANCE));
}

#[test]
fn logits_are_numpy_s_on_every_device() {
    let expected = expected("logits").convert::<f32>();
    for (name, device) in devices() {
        let model = Llama::from_folder(fixture(), &device).unwrap();
        assert_near(model.forward(tokens(&device)), &expected, name);
    }
}

#[test]
fn cached_logits_are_numpy_s_on_every_device() {
    let expected = expected("logits").convert::<f32>();
    for (name, device) in devices() {
        let model = Llama::from_folder(fixture(), &device).unwrap();
        let mut cache = model.cache(10);
        let chunks = [(0, 4), (4, 1), (5, 3), (8, 1), (9, 1)];
        let features = chunks
            .map(|(start, new)| model.features_cached(tokens(&device).narrow(1, start, new), &mut cache).unwrap());
        assert_near(model.logits(Tensor::cat(features.to_vec(), 1)), &expected, name);
    }
}

#[test]
fn structured_layers_are_their_dense_weights_on_every_device() {
    for (name, device) in devices() {
        for structure in ["blast:b=2,r=3", "low-rank:r=3", "monarch:b=2,r=2", "ss1:c=2,k=4,n=8"] {
            device.seed(3);
            let config = LlamaConfig::new(17).with_context(10).with_d_model(16).with_depth(2).with_heads(4);
            let config = config.with_kv_heads(2).with_d_hidden(24).with_structure(structure.parse().unwrap());
            let model = config.init(&device);
            let mut dense = model.clone();
            for (_, layer) in dense.linears_mut() {
                let approximation = burn_structured::nn::StructuredLinearConfig::new(
                    layer.d_input(),
                    layer.d_output(),
                    burn_structured::nn::Structure::Dense,
                );
                *layer = approximation.with_bias(false).from_dense(layer.to_dense(), None).unwrap().layer;
            }
            let expected = dense.forward(tokens(&device)).into_data().convert::<f32>();
            assert_near(model.forward(tokens(&device)), &expected, &format!("{structure} on {name}"));
        }
    }
}
