//! Checkpoints that do not fit their configuration.

use super::Checkpoint;
use crate::decoder::testing::Tensors;
use crate::gpt2::Gpt2;
use crate::testing::{read_stored, write_stored};
use burn::tensor::Device;
use burn_structured_checkpoint::Manifest;
use burn_structured_nn::{Structure, StructuredLinearConfig};
use safetensors::Dtype;
use serde_json::json;
use std::path::Path;
use tempfile::TempDir;

fn message(change: impl Fn(&mut Checkpoint)) -> String {
    let mut checkpoint = Checkpoint::fixture();
    change(&mut checkpoint);
    checkpoint.load().unwrap_err().to_string()
}

#[test]
fn missing_tensors_are_named() {
    for name in ["wte.weight", "ln_f.bias", "h.0.ln_2.weight", "h.1.attn.c_attn.weight", "h.0.mlp.c_proj.bias"] {
        let message = message(|checkpoint| drop(checkpoint.tensors.0.remove(&format!("transformer.{name}")).unwrap()));
        assert!(message.contains(&format!("model.safetensors lacks {name}; do config.json")), "{message}");
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

/// The folder of a model whose layer `h.0.mlp.c_fc` has another structure.
fn compressed(structure: &str) -> TempDir {
    let mut model = Checkpoint::fixture().load().unwrap();
    let structure: Structure = structure.parse().unwrap();
    for (_, layer) in model.linears_mut().filter(|(name, _)| name == "h.0.mlp.c_fc") {
        *layer = StructuredLinearConfig::new(12, 48, structure).init(&Device::flex());
    }
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path(), None).unwrap();
    folder
}

fn load(folder: &Path) -> Result<Gpt2, String> {
    Gpt2::from_folder(folder, &Device::flex()).map_err(|error| error.to_string())
}

#[test]
fn description_must_fit_weights_and_model() {
    let folder = compressed("low-rank:r=3");
    let (tensors, metadata) = read_stored(folder.path());
    let layer = "transformer.h.0.mlp.c_fc";
    let message = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest: Manifest = serde_json::from_str(&metadata["burn_structured"]).unwrap();
        change(&mut manifest);
        let mut metadata = metadata.clone();
        manifest.insert_into(&mut metadata);
        write_stored(folder.path(), &tensors, &metadata);
        load(folder.path()).unwrap_err()
    };
    let structure =
        |text: &'static str| message(&|manifest| manifest.layers.get_mut(layer).unwrap().structure = text.into());
    for (text, expected) in [
        ("blast:b=5,r=3", "(\"blast:b=5,r=3\", 12 → 48) cannot be: "),
        ("low-rank:r=4", "transformer.h.0.mlp.c_fc.v has shape [12, 3] instead of [12, 4]"),
        ("butterfly", "has no known structure: "),
    ] {
        let message = structure(text);
        assert!(message.contains(expected), "{message}");
    }
    let size = message(&|manifest| manifest.layers.get_mut(layer).unwrap().d_input = 24);
    assert!(size.contains("model.safetensors: the layer h.0.mlp.c_fc is 24 → 48 instead of 12 → 48; do"), "{size}");
    let undescribed = message(&|manifest| manifest.layers.clear());
    assert!(undescribed.contains("model.safetensors lacks h.0.mlp.c_fc.weight; do config.json"), "{undescribed}");
    let format = message(&|manifest| manifest.format = 2);
    assert!(format.contains("has format 2"), "{format}");
}

#[test]
fn described_layers_of_other_blocks_are_named() {
    let folder = compressed("low-rank:r=3");
    let (mut tensors, mut metadata) = read_stored(folder.path());
    let renamed = |name: &str| name.replace("h.0.mlp.c_fc", "h.2.mlp.c_fc");
    tensors.iter_mut().for_each(|(name, ..)| *name = renamed(name));
    metadata.values_mut().for_each(|value| *value = renamed(value));
    write_stored(folder.path(), &tensors, &metadata);
    let message = load(folder.path()).unwrap_err();
    assert!(message.contains("model.safetensors describes the layer h.2.mlp.c_fc, which the model does"), "{message}");
}

#[test]
fn hash_of_another_layer_is_named() {
    let folder = compressed("ss1:c=2,k=4,n=8");
    load(folder.path()).unwrap();
    let (tensors, metadata) = read_stored(folder.path());
    let hash = tensors.iter().position(|(name, ..)| name == "transformer.h.0.mlp.c_fc.hash").unwrap();
    // The number of input features is the second one: 9 would need as many stored weights as 12 do.
    let one_number = tensors[hash].3.len() / tensors[hash].2[0];
    for (number, value) in [(0, 7), (1, 9), (1, 48), (3, 0)] {
        let mut tensors = tensors.clone();
        tensors[hash].3[number * one_number] = value;
        write_stored(folder.path(), &tensors, &metadata);
        let message = load(folder.path()).unwrap_err();
        assert!(message.contains("h.0.mlp.c_fc") && message.contains("has a `hash` of another layer"), "{message}");
    }
}
