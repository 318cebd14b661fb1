//! Checkpoints that do not fit their configuration.

use super::{Checkpoint, Tensors};
use crate::gpt2::Gpt2;
use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::json;
use std::path::Path;

fn message(change: impl Fn(&mut Checkpoint)) -> String {
    let mut checkpoint = Checkpoint::fixture();
    change(&mut checkpoint);
    checkpoint.load().unwrap_err().to_string()
}

#[test]
fn missing_tensors_are_named() {
    for name in ["wte.weight", "ln_f.bias", "h.0.ln_2.weight", "h.1.attn.c_attn.weight", "h.0.mlp.c_proj.bias"] {
        let message = message(|checkpoint| drop(checkpoint.tensors.0.remove(&format!("transformer.{name}")).unwrap()));
        assert!(message.contains(&format!("model.safetensors lacks {name}; is it a GPT-2")), "{message}");
    }
    let message = message(|checkpoint| checkpoint.tensors.0.retain(|name, _| name.contains(".ln_")));
    assert!(message.contains("lacks h.0.attn.c_attn.bias and 17 more tensors; "), "{message}");
}

#[test]
fn untied_head_must_be_there() {
    let message = message(|checkpoint| checkpoint.config["tie_word_embeddings"] = json!(false));
    assert!(message.contains("model.safetensors lacks lm_head.weight; "), "{message}");
}

#[test]
fn shapes_are_those_of_the_file() {
    let one_more_row = |tensors: &mut Tensors, name: &str| {
        let (_, shape, bytes) = tensors.0.get_mut(name).unwrap();
        let row = bytes.len() / shape[0];
        shape[0] += 1;
        bytes.extend(vec![0; row]);
    };
    for (name, shapes) in [
        ("h.0.mlp.c_fc.weight", "[13, 48] instead of [12, 48]"),
        ("h.1.attn.c_attn.bias", "[37] instead of [36]"),
        ("h.0.ln_1.weight", "[13] instead of [12]"),
        ("wpe.weight", "[11, 12] instead of [10, 12]"),
    ] {
        let message = message(|checkpoint| one_more_row(&mut checkpoint.tensors, &format!("transformer.{name}")));
        assert!(message.contains(&format!("model.safetensors: {name} has shape {shapes}; do config")), "{message}");
    }
    // The head is stored transposed.
    let message = message(|checkpoint| {
        checkpoint.config["tie_word_embeddings"] = json!(false);
        let embedding = checkpoint.tensors.0["transformer.wte.weight"].clone();
        checkpoint.tensors.0.insert("lm_head.weight".into(), embedding);
        one_more_row(&mut checkpoint.tensors, "lm_head.weight");
    });
    assert!(message.contains("lm_head.weight has shape [18, 12] instead of [17, 12]; "), "{message}");
}

#[test]
fn tensors_of_other_blocks_are_named() {
    let fewer = message(|checkpoint| checkpoint.config["n_layer"] = json!(1));
    assert!(fewer.contains("model.safetensors: h.1.attn.c_attn.bias belongs to no layer of the model; "), "{fewer}");
    let other = message(|checkpoint| {
        let norm = checkpoint.tensors.0["transformer.h.0.ln_1.weight"].clone();
        checkpoint.tensors.0.insert("transformer.h.0.ln_cross_attn.weight".into(), norm);
    });
    assert!(other.contains("h.0.ln_cross_attn.weight belongs to no layer of the model; "), "{other}");
}

#[test]
fn whole_numbers_are_no_weights() {
    let message = message(|checkpoint| {
        let (dtype, shape, bytes) = checkpoint.tensors.0.get_mut("transformer.wte.weight").unwrap();
        (*dtype, *bytes) = (Dtype::I32, vec![0; 4 * shape[0] * shape[1]]);
    });
    assert!(message.contains("model.safetensors: wte.weight cannot be used: it holds I32 instead of F32"), "{message}");
}

#[test]
fn structures_must_fit_weights_and_layer() {
    let with = |structure: &str| {
        let structure = structure.to_string();
        message(move |checkpoint| {
            checkpoint.config["burn_structured"] = json!({"format": 1, "structures": {"h.0.mlp.c_fc": structure}});
        })
    };
    let lacking = with("low-rank:r=3");
    assert!(lacking.contains("lacks h.0.mlp.c_fc.ut and another tensor; is it a GPT-2"), "{lacking}");
    let indivisible = with("blast:b=5,r=3");
    assert!(indivisible.contains("config.json: h.0.mlp.c_fc (12 → 48, blast:b=5,r=3): "), "{indivisible}");
}

#[test]
fn hash_of_another_layer_is_named() {
    let mut model = Checkpoint::fixture().load().unwrap();
    let structure: burn_structured_nn::Structure = "ss1:c=2,k=4,n=8".parse().unwrap();
    for (_, layer) in model.linears_mut().filter(|(name, _)| name == "h.0.mlp.c_fc") {
        let config = burn_structured_nn::StructuredLinearConfig::new(12, 48, structure);
        *layer = config.init(&Device::flex());
    }
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path(), None).unwrap();
    let path = folder.path().join("model.safetensors");
    let saved = Tensors::read(&path);
    let load = |folder: &Path| Gpt2::from_folder(folder, &Device::flex());
    load(folder.path()).unwrap();
    let hash = "transformer.h.0.mlp.c_fc.hash";
    // The number of input features is the second one: 9 would need as many stored weights as 12 do.
    let one_number = saved.0[hash].2.len() / 15;
    for (number, value) in [(0, 7), (1, 9), (1, 48), (3, 0)] {
        let mut tensors = saved.clone();
        tensors.0.get_mut(hash).unwrap().2[number * one_number] = value;
        std::fs::write(&path, tensors.bytes()).unwrap();
        let message = load(folder.path()).unwrap_err().to_string();
        assert!(message.contains("model.safetensors: h.0.mlp.c_fc.hash cannot be used: it is not that"), "{message}");
    }
}
