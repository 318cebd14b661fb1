//! Files that are damaged, missing, in several parts, or cannot be written.

use super::Checkpoint;
use crate::decoder::testing::file_names;
use crate::gpt2::Gpt2;
use crate::testing::{parameters, write_shards};
use burn::tensor::Device;
use burn_structured_nn::{StructuredLinear, StructuredLinearConfig};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn load(folder: &Path) -> Result<Gpt2, String> {
    Gpt2::from_folder(folder, &Device::flex()).map_err(|error| error.to_string())
}

#[test]
fn damaged_and_missing_files_are_named() {
    let folder = Checkpoint::fixture().folder();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for damaged in [&bytes[..bytes.len() - 1], &bytes[..100], &bytes[..5], &[], b"<html>404 not found</html>"] {
        fs::write(&path, damaged).unwrap();
        let message = load(folder.path()).unwrap_err();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
    fs::remove_file(&path).unwrap();
    let message = load(folder.path()).unwrap_err();
    assert!(message.starts_with(&format!("{} holds neither model.safetensors", folder.path().display())), "{message}");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let message = load(folder.path()).unwrap_err();
    assert!(message.starts_with(&format!("cannot read {}/config.json: ", folder.path().display())), "{message}");
}

#[test]
fn weights_may_be_in_several_files() {
    let folder = Checkpoint::fixture().folder();
    write_shards(folder.path(), 2);
    let path = folder.path().join("model.safetensors.index.json");
    let expected = Checkpoint::fixture().load().unwrap();
    assert_eq!(parameters(&load(folder.path()).unwrap()), parameters(&expected));

    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut damaged = index.clone();
    damaged["weight_map"]["transformer.wte.weight"] = json!("../model-0.safetensors");
    fs::write(&path, damaged.to_string()).unwrap();
    let message = load(folder.path()).unwrap_err();
    assert!(
        message.contains("index.json names \"../model-0.safetensors\", which is not the name of a file"),
        "{message}"
    );

    fs::write(&path, "{}").unwrap();
    let message = load(folder.path()).unwrap_err();
    assert!(message.contains("index.json is no valid index of shards: missing field `weight_map`"), "{message}");

    fs::write(&path, index.to_string()).unwrap();
    fs::remove_file(folder.path().join("model-1.safetensors")).unwrap();
    let message = load(folder.path()).unwrap_err();
    assert!(message.contains("model-1.safetensors, which cannot be read: "), "{message}");
}

#[test]
fn failed_save_leaves_no_partial_file() {
    let model = Checkpoint::fixture().load().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // A folder cannot be replaced by a file.
    fs::create_dir_all(folder.path().join("model.safetensors/inside")).unwrap();
    let message = model.save_folder(folder.path(), None).unwrap_err().to_string();
    assert!(message.contains("cannot write ") && message.contains("model.safetensors"), "{message}");
    assert_eq!(file_names(folder.path()), ["model.safetensors"]);

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let message = model.save_folder(&file, None).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot write {}: ", file.display())), "{message}");
}

#[test]
fn configuration_is_removed_before_other_weights_are_written() {
    let folder = Checkpoint::fixture().folder();
    let model = load(folder.path()).unwrap();
    let weights = folder.path().join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    fs::create_dir(&weights).unwrap();
    // The fixture's own file has other fields than the one to be written, so it counts as another model's.
    model.save_folder(folder.path(), None).unwrap_err();
    assert_eq!(file_names(folder.path()), ["model.safetensors"]);

    fs::remove_dir(&weights).unwrap();
    model.save_folder(folder.path(), None).unwrap();
    fs::remove_file(&weights).unwrap();
    fs::create_dir(&weights).unwrap();
    // The same configuration stays.
    model.save_folder(folder.path(), None).unwrap_err();
    assert_eq!(file_names(folder.path()), ["config.json", "model.safetensors"]);
}

#[test]
fn layers_without_a_place_in_the_file_are_named() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let original = Checkpoint::fixture().load().unwrap();
    let message = |change: &dyn Fn(&mut Gpt2)| {
        let mut model = original.clone();
        change(&mut model);
        model.save_folder(folder.path(), None).unwrap_err().to_string()
    };
    let layer = |structure: &str, bias: bool| {
        let config = StructuredLinearConfig::new(12, 48, structure.parse().unwrap()).with_bias(bias);
        config.init(&device)
    };
    let frozen = message(&|model| model.blocks[0].fc1 = layer("gaudi:r=3", true).freeze_windows());
    assert_eq!(frozen, "h.0.mlp.c_fc cannot be saved: its windows are frozen; save the layer before they are");
    let bare = message(&|model| model.blocks[1].fc1 = layer("dense", false));
    assert!(bare.starts_with("h.1.mlp.c_fc cannot be saved: it has no bias, "), "{bare}");
    let head = |bias| StructuredLinearConfig::new(12, 17, burn_structured_nn::Structure::Dense).with_bias(bias);
    let biased = message(&|model| model.head = Some(head(true).init(&device)));
    assert!(biased.starts_with("lm_head cannot be saved: it has a bias, "), "{biased}");
    assert_eq!(file_names(folder.path()), Vec::<String>::new());
    let mut model = original.clone();
    let unbiased: StructuredLinear = head(false).init(&device);
    model.head = Some(unbiased);
    model.save_folder(folder.path(), None).unwrap();
}
