//! Checkpoints that do not fit their configuration, and models that have no place in one.

use super::Checkpoint;
use crate::decoder::testing::file_names;
use crate::llama::Llama;
use burn::tensor::Device;
use burn_structured_nn::{Structure, StructuredLinearConfig};
use safetensors::Dtype;
use serde_json::json;

fn message(change: impl Fn(&mut Checkpoint)) -> String {
    let mut checkpoint = Checkpoint::fixture();
    change(&mut checkpoint);
    checkpoint.load().unwrap_err().to_string()
}

#[test]
fn missing_tensors_are_named() {
    for name in ["embed_tokens", "norm", "layers.0.post_attention_layernorm", "layers.1.self_attn.v_proj"] {
        let remove =
            |checkpoint: &mut Checkpoint| drop(checkpoint.tensors.0.remove(&format!("model.{name}.weight")).unwrap());
        let message = message(remove);
        assert!(message.contains(&format!("model.safetensors lacks {name}.weight; do config.json")), "{message}");
    }
    let message = message(|checkpoint| drop(checkpoint.tensors.0.remove("lm_head.weight").unwrap()));
    assert!(message.contains("model.safetensors lacks lm_head.weight; "), "{message}");
}

#[test]
fn shapes_are_those_of_the_file() {
    for (name, shapes) in [
        ("model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj.weight has shape [25, 16] instead of [24, 16]"),
        ("model.layers.1.self_attn.k_proj", "layers.1.self_attn.k_proj.weight has shape [13, 16] instead of [12, 16]"),
        ("model.layers.0.input_layernorm", "layers.0.input_layernorm.weight has shape [17] instead of [16]"),
        ("lm_head", "lm_head.weight has shape [18, 16] instead of [17, 16]"),
    ] {
        let message = message(|checkpoint| {
            let (_, shape, bytes) = checkpoint.tensors.0.get_mut(&format!("{name}.weight")).unwrap();
            let row = bytes.len() / shape[0];
            shape[0] += 1;
            bytes.extend(vec![0; row]);
        });
        assert!(message.contains(&format!("model.safetensors: {shapes}; do config.json")), "{message}");
    }
    // As many heads of keys as of queries, which the weights do not have.
    let message = message(|checkpoint| checkpoint.config["num_key_value_heads"] = json!(4));
    assert!(message.contains("_proj.weight has shape [12, 16] instead of [24, 16]; "), "{message}");
}

#[test]
fn tensors_of_other_blocks_are_named() {
    let fewer = message(|checkpoint| checkpoint.config["num_hidden_layers"] = json!(1));
    assert!(fewer.contains("layers.1.input_layernorm.weight belongs to no layer of the model; "), "{fewer}");
    for (name, other) in [("self_attn.q_norm.weight", "q_norm"), ("self_attn.q_proj.bias", "q_proj.bias")] {
        let message = message(|checkpoint| {
            let norm = checkpoint.tensors.0["model.layers.0.input_layernorm.weight"].clone();
            checkpoint.tensors.0.insert(format!("model.layers.0.{name}"), norm);
        });
        assert!(
            message.contains(&format!("self_attn.{other}")) && message.contains("belongs to no layer"),
            "{message}"
        );
    }
}

#[test]
fn whole_numbers_are_no_weights() {
    let message = message(|checkpoint| {
        let (dtype, shape, bytes) = checkpoint.tensors.0.get_mut("model.embed_tokens.weight").unwrap();
        (*dtype, *bytes) = (Dtype::I32, vec![0; 4 * shape[0] * shape[1]]);
    });
    assert!(message.contains("embed_tokens.weight cannot be used: it holds I32 instead of F32"), "{message}");
}

#[test]
fn refused_configurations_are_named() {
    for (field, value, expected) in [
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 8.0}),
            "rope_scaling is yarn, but only default, linear or llama3",
        ),
        ("hidden_act", json!("gelu"), "hidden_act is gelu, but only silu"),
        ("model_type", json!("gpt2"), "model_type is gpt2, but only llama"),
    ] {
        let message = message(|checkpoint| checkpoint.config[field] = value.clone());
        assert!(message.contains("config.json: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn layers_without_a_place_in_the_file_are_named() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let original = Checkpoint::fixture().load().unwrap();
    let message = |change: &dyn Fn(&mut Llama)| {
        let mut model = original.clone();
        change(&mut model);
        model.save_folder(folder.path(), None).unwrap_err().to_string()
    };
    let layer = |structure: &str, bias: bool| {
        let config = StructuredLinearConfig::new(16, 24, structure.parse().unwrap()).with_bias(bias);
        config.init(&device)
    };
    let frozen = message(&|model| model.blocks[0].up = layer("gaudi:r=3", false).freeze_windows());
    assert_eq!(frozen, "layers.0.mlp.up_proj cannot be saved: its windows are frozen; save the layer before they are");
    let biased = message(&|model| model.blocks[1].gate = layer("dense", true));
    assert!(biased.starts_with("layers.1.mlp.gate_proj cannot be saved: it has a bias, "), "{biased}");
    let head = StructuredLinearConfig::new(16, 17, Structure::Dense);
    let biased = message(&|model| model.head = Some(head.init(&device)));
    assert!(biased.starts_with("lm_head cannot be saved: it has a bias, "), "{biased}");
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
}
