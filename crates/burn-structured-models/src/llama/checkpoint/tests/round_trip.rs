//! Saved and loaded again, to the bit.

use super::{Checkpoint, tokens};
use crate::decoder::LayerRules;
use crate::decoder::testing::Tensors;
use crate::llama::tests::random_model;
use crate::llama::{Llama, LlamaConfig, RopeScaling};
use crate::testing::{parameters, read_stored};
use burn::tensor::Device;
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::StructuredLinear;
use std::path::Path;

/// A model of these structures for [`tokens`] that differs from the default in every setting.
fn model(rules: &str, head: Option<&str>) -> Llama {
    let config = LlamaConfig::new(17)
        .with_context(10)
        .with_d_model(16)
        .with_depth(2)
        .with_heads(4)
        .with_kv_heads(2)
        .with_d_head(8)
        .with_d_hidden(48)
        .with_norm_epsilon(1e-6)
        .with_rope_theta(500.0)
        .with_rope_scaling(Some(RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8 }))
        .with_structures(rules.parse().unwrap())
        .with_head(head.map(|head| head.parse().unwrap()));
    random_model(&config, &Device::flex())
}

fn save(model: &Llama, folder: &Path) {
    model.save_folder(folder, None).unwrap();
}

fn load(folder: &Path) -> Llama {
    Llama::from_folder(folder, &Device::flex()).unwrap()
}

fn assert_same(found: &Llama, expected: &Llama, what: &str) {
    assert_eq!(found.config().unwrap(), expected.config().unwrap(), "{what}");
    assert_eq!(parameters(found), parameters(expected), "{what}");
    assert_eq!(found.forward(tokens()).into_data(), expected.forward(tokens()).into_data(), "{what}");
}

#[test]
fn dense_folder_survives_loading_and_saving() {
    let loaded = load(&Checkpoint::fixture_folder());
    let saved = tempfile::tempdir().unwrap();
    save(&loaded, saved.path());
    assert_same(&load(saved.path()), &loaded, "fixture");
    // The weights are the file's own, bit by bit, and so are their names.
    let mut original = Checkpoint::fixture().tensors;
    original.0.retain(|name, _| !name.ends_with("inv_freq"));
    assert_eq!(Tensors::read(&saved.path().join("model.safetensors")).0, original.0);
    let (_, metadata) = read_stored(saved.path());
    assert_eq!(metadata.into_iter().collect::<Vec<_>>(), [("format".into(), "pt".into())]);
}

#[test]
fn tied_and_structured_heads_survive() {
    for head in [None, Some("dense"), Some("low-rank:r=3"), Some("ss1:c=2,k=4,n=8")] {
        let folder = tempfile::tempdir().unwrap();
        let model = model("mlp=monarch:b=2,r=1", head);
        save(&model, folder.path());
        assert_same(&load(folder.path()), &model, &format!("{head:?}"));
    }
}

#[test]
fn factors_are_saved_under_the_layer_s_name() {
    let folder = tempfile::tempdir().unwrap();
    save(&model(r"layers\.1\.mlp\.up_proj=blast:b=2,r=4", Some("low-rank:r=3")), folder.path());
    let tensors = Tensors::read(&folder.path().join("model.safetensors"));
    let names = |start: &str| {
        let names = tensors.0.keys().filter_map(|name| name.strip_prefix(start).map(str::to_string));
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("model.layers.1.mlp.up_proj."), ["s", "u", "v"]);
    assert_eq!(names("model.layers.0.mlp.up_proj."), ["weight"]);
    assert_eq!(names("lm_head."), ["ut", "v"]);
    let manifest = burn_structured_checkpoint::Checkpoint::open(folder.path()).unwrap().manifest().unwrap().unwrap();
    let described: Vec<_> = manifest
        .layers
        .iter()
        .map(|(name, entry)| (name.as_str(), entry.structure.as_str(), entry.orientation))
        .collect();
    let expected = [
        ("lm_head", "low-rank:r=3", Orientation::OutIn),
        ("model.layers.1.mlp.up_proj", "blast:b=2x2,r=4", Orientation::OutIn),
    ];
    assert_eq!(described, expected);
}

#[test]
fn compressed_layers_are_saved_as_they_are() {
    let mut model = load(&Checkpoint::fixture_folder());
    for (name, layer) in model.linears_mut().filter(|(name, _)| name.ends_with(".mlp.down_proj")) {
        let StructuredLinear::Dense(linear) = &*layer else { panic!("{name} is dense") };
        let structure: burn_structured_nn::Structure = "low-rank:r=4".parse().unwrap();
        *layer = structure.approximate(linear).unwrap().layer;
    }
    let folder = tempfile::tempdir().unwrap();
    save(&model, folder.path());
    let loaded = load(folder.path());
    assert_same(&loaded, &model, "compressed");
    let rank = "low-rank:r=4".parse().unwrap();
    let names = ["layers.0.mlp.down_proj", "layers.1.mlp.down_proj"];
    assert_eq!(loaded.config().unwrap().structures, LayerRules::of_layers(names.map(|name| (name, rank))));
}
