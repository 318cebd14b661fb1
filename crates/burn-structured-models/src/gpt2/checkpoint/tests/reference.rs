//! The loaded model against what NumPy computes.

use super::{Checkpoint, tokens};
use crate::decoder::testing::{Stored, Tensors};
use crate::gpt2::Gpt2;
use crate::testing::parameters;
use burn::tensor::{DType, Device, Tensor, TensorData, Tolerance};
use safetensors::Dtype;
use serde_json::json;

fn expected(name: &str) -> TensorData {
    Checkpoint::expected(name).convert::<f32>()
}

fn assert_near<const D: usize>(found: Tensor<D>, expected: &TensorData, tolerance: f32) {
    found.into_data().assert_approx_eq::<f32>(expected, Tolerance::absolute(tolerance));
}

#[test]
fn logits_and_hidden_states_are_numpy_s() {
    let model = Gpt2::from_folder(Checkpoint::fixture_folder(), &Device::flex()).unwrap();
    assert!(model.head.is_none());
    assert_near(model.forward(tokens()), &expected("logits"), 1e-4);
    let states = model.hidden_states(tokens()).into_iter().map(|state| state.unsqueeze::<4>()).collect();
    assert_near(Tensor::cat(states, 0), &expected("hidden_states"), 1e-4);
}

/// The fixture with a head of its own.
fn untied() -> Checkpoint {
    let mut checkpoint = Checkpoint::fixture();
    checkpoint.config["tie_word_embeddings"] = json!(false);
    let head: Stored = Tensors::read(&Checkpoint::fixture_folder().join("expected.safetensors")).0["head"].clone();
    checkpoint.tensors.0.insert("lm_head.weight".into(), head);
    checkpoint
}

#[test]
fn untied_head_gives_the_logits_of_numpy() {
    let model = untied().load().unwrap();
    assert_near(model.forward(tokens()), &expected("head_logits"), 1e-4);
    let saved = tempfile::tempdir().unwrap();
    model.save_folder(saved.path(), None).unwrap();
    let loaded = Gpt2::from_folder(saved.path(), &Device::flex()).unwrap();
    assert_near(loaded.forward(tokens()), &expected("head_logits"), 1e-4);
}

#[test]
fn tied_head_needs_no_tensor_and_ignores_it() {
    let mut checkpoint = untied();
    checkpoint.config["tie_word_embeddings"] = json!(true);
    assert_near(checkpoint.load().unwrap().forward(tokens()), &expected("logits"), 1e-4);
}

#[test]
fn names_may_lack_the_prefix() {
    let short = Checkpoint::fixture().renamed(|name| name.strip_prefix("transformer.").unwrap().into());
    assert!(short.tensors.0.contains_key("h.0.attn.bias"));
    assert_eq!(parameters(&short.load().unwrap()), parameters(&Checkpoint::fixture().load().unwrap()));
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
