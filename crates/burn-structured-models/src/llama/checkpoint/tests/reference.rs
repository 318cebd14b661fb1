//! The loaded model against what NumPy computes.

use super::{Checkpoint, tokens};
use crate::decoder::Decoder;
use crate::llama::Llama;
use crate::testing::{parameters, write_shards};
use burn::tensor::{DType, Device, Tensor, TensorData, Tolerance};
use safetensors::Dtype;
use serde_json::json;

/// Roundoff of some thousand additions of numbers up to 10.
const TOLERANCE: f32 = 1e-4;

fn expected(name: &str) -> TensorData {
    Checkpoint::expected(name).convert::<f32>()
}

fn assert_near<const D: usize>(found: Tensor<D>, expected: &TensorData, tolerance: f32) {
    found.into_data().assert_approx_eq::<f32>(expected, Tolerance::absolute(tolerance));
}

#[test]
fn logits_and_hidden_states_are_numpy_s() {
    let model = Llama::from_folder(Checkpoint::fixture_folder(), &Device::flex()).unwrap();
    assert_near(model.forward(tokens()), &expected("logits"), TOLERANCE);
    let states = model.hidden_states(tokens()).into_iter().map(|state| state.unsqueeze::<4>()).collect();
    assert_near(Tensor::cat(states, 0), &expected("hidden_states"), TOLERANCE);
}

#[test]
fn cached_logits_are_numpy_s() {
    let model = Checkpoint::fixture().load().unwrap();
    let mut cache = model.cache(10);
    let logits = (0..10).map(|at| model.forward_cached(tokens().narrow(1, at, 1), &mut cache).unwrap());
    assert_near(Tensor::cat(logits.collect(), 1), &expected("logits"), TOLERANCE);
}

#[test]
fn tied_head_gives_the_logits_of_numpy() {
    let mut checkpoint = Checkpoint::fixture();
    checkpoint.config["tie_word_embeddings"] = json!(true);
    // The head beside a tied embedding is passed over.
    let model = checkpoint.load().unwrap();
    assert!(model.head.is_none());
    assert_near(model.forward(tokens()), &expected("tied_logits"), TOLERANCE);
    let saved = tempfile::tempdir().unwrap();
    model.save_folder(saved.path(), None).unwrap();
    let loaded = Llama::from_folder(saved.path(), &Device::flex()).unwrap();
    assert_near(loaded.forward(tokens()), &expected("tied_logits"), TOLERANCE);
}

#[test]
fn names_may_lack_the_prefix() {
    let short = Checkpoint::fixture().renamed(|name| name.strip_prefix("model.").unwrap_or(&name).into());
    assert!(short.tensors.0.contains_key("layers.0.self_attn.rotary_emb.inv_freq"));
    assert_eq!(parameters(&short.load().unwrap()), parameters(&Checkpoint::fixture().load().unwrap()));
}

#[test]
fn weights_may_be_in_several_files() {
    let folder = Checkpoint::fixture().folder();
    write_shards(folder.path(), 3);
    let model = Llama::from_folder(folder.path(), &Device::flex()).unwrap();
    assert_near(model.forward(tokens()), &expected("logits"), TOLERANCE);
}

#[test]
fn half_precision_is_converted() {
    let exact = parameters(&Checkpoint::fixture().load().unwrap());
    for (dtype, stored, tolerance) in [(DType::F16, Dtype::F16, 0.05), (DType::BF16, Dtype::BF16, 0.5)] {
        let model = Checkpoint::fixture().converted(dtype, stored).load().unwrap();
        assert_near(model.forward(tokens()), &expected("logits"), tolerance);
        for ((name, found), (_, exact)) in parameters(&model).into_iter().zip(&exact) {
            let rounded = exact.clone().convert_dtype(dtype).convert_dtype(DType::F32);
            assert_eq!(found, rounded, "{name}");
        }
    }
}
