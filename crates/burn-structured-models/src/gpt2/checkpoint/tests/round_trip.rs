//! Saved and loaded again, to the bit.

use super::{Checkpoint, tokens};
use crate::decoder::LayerRules;
use crate::decoder::testing::{Tensors, file_names};
use crate::gpt2::tests::random_model;
use crate::gpt2::{Gpt2, Gpt2Config};
use crate::testing::{parameters, read_stored, write_stored};
use crate::text::Tokenizer;
use burn::tensor::Device;
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::{Ss1Hash, Ss1LinearConfig, StructuredLinear};
use safetensors::Dtype;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A model of these structures for [`tokens`] that differs from the default in every setting.
fn model(rules: &str, head: Option<&str>) -> Gpt2 {
    let config = Gpt2Config::new(17)
        .with_context(10)
        .with_d_model(16)
        .with_depth(2)
        .with_heads(2)
        .with_d_hidden(48)
        .with_dropout(0.25)
        .with_norm_epsilon(1e-6)
        .with_structures(rules.parse().unwrap())
        .with_head(head.map(|head| head.parse().unwrap()));
    random_model(&config, &Device::flex())
}

fn save(model: &Gpt2, folder: &Path) {
    model.save_folder(folder, None).unwrap();
}

fn load(folder: &Path) -> Gpt2 {
    Gpt2::from_folder(folder, &Device::flex()).unwrap()
}

fn assert_same(found: &Gpt2, expected: &Gpt2, what: &str) {
    assert_eq!(found.config().unwrap(), expected.config().unwrap(), "{what}");
    assert_eq!(parameters(found), parameters(expected), "{what}");
    assert_eq!(found.forward(tokens()).into_data(), expected.forward(tokens()).into_data(), "{what}");
}

#[test]
fn dense_folder_survives_loading_and_saving() {
    let folder = Checkpoint::fixture().folder();
    let loaded = load(folder.path());
    let saved = tempfile::tempdir().unwrap();
    save(&loaded, saved.path());
    assert_same(&load(saved.path()), &loaded, "fixture");
    // The weights are the file's own, bit by bit, and so are their names.
    let mut original = Checkpoint::fixture().tensors;
    original.0.retain(|name, _| !name.ends_with(".attn.bias") && !name.ends_with("masked_bias"));
    assert_eq!(Tensors::read(&saved.path().join("model.safetensors")).0, original.0);
    let (_, metadata) = read_stored(saved.path());
    assert_eq!(metadata.into_iter().collect::<Vec<_>>(), [("format".into(), "pt".into())]);
    let text = fs::read_to_string(saved.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["n_inner"], Value::Null);
}

#[test]
fn hashes_without_text_form_survive() {
    for hash in [Ss1Hash::Additive { constants: [3, 5, 7, 11], vec: 3 }, Ss1Hash::Independent { seed: 2, signs: false }]
    {
        let mut model = model("", None);
        let layer = Ss1LinearConfig::new(16, 48).with_block_k(4).with_hash(hash).init(&Device::flex());
        model.blocks[1].fc1 = StructuredLinear::Ss1(layer);
        let folder = tempfile::tempdir().unwrap();
        save(&model, folder.path());
        assert_same(&load(folder.path()), &model, &format!("{hash:?}"));
    }
}

#[test]
fn hashes_of_another_integer_type_are_converted() {
    let model = model("mlp=ss1:c=2,k=4,n=8", None);
    let folder = tempfile::tempdir().unwrap();
    save(&model, folder.path());
    let (mut tensors, metadata) = read_stored(folder.path());
    for (_, dtype, _, bytes) in tensors.iter_mut().filter(|(name, ..)| name.ends_with(".hash")) {
        let is_long = *dtype == Dtype::I64;
        let numbers = bytes.chunks(if is_long { 8 } else { 4 });
        *bytes = numbers
            .flat_map(|number| if is_long { number[..4].to_vec() } else { [number, &[0; 4]].concat() })
            .collect();
        *dtype = if is_long { Dtype::I32 } else { Dtype::I64 };
    }
    write_stored(folder.path(), &tensors, &metadata);
    assert_same(&load(folder.path()), &model, "another integer type");
}

#[test]
fn factors_are_saved_under_the_layer_s_name() {
    let folder = tempfile::tempdir().unwrap();
    save(&model(r"h\.1\.mlp\.c_fc=blast:b=2,r=4", Some("low-rank:r=3")), folder.path());
    let tensors = Tensors::read(&folder.path().join("model.safetensors"));
    let names = |start: &str| {
        let names = tensors.0.keys().filter_map(|name| name.strip_prefix(start).map(str::to_string));
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("transformer.h.1.mlp.c_fc."), ["bias", "s", "u", "v"]);
    assert_eq!(names("transformer.h.0.mlp.c_fc."), ["bias", "weight"]);
    assert_eq!(names("lm_head."), ["ut", "v"]);
    let manifest = burn_structured_checkpoint::Checkpoint::open(folder.path()).unwrap().manifest().unwrap().unwrap();
    let described: Vec<_> =
        manifest.layers.iter().map(|(name, entry)| (name.as_str(), &entry.structure, entry.orientation)).collect();
    let expected = [
        ("lm_head", &"low-rank:r=3".to_string(), Orientation::OutIn),
        ("transformer.h.1.mlp.c_fc", &"blast:b=2x2,r=4".to_string(), Orientation::InOut),
    ];
    assert_eq!(described, expected);
}

#[test]
fn compressed_layers_are_saved_as_they_are() {
    let mut model = load(Checkpoint::fixture().folder().path());
    for (name, layer) in model.linears_mut().filter(|(name, _)| name.contains(".mlp.")) {
        let StructuredLinear::Dense(linear) = &*layer else { panic!("{name} is dense") };
        let structure: burn_structured_nn::Structure = "low-rank:ratio=0.5".parse().unwrap();
        *layer = structure.approximate(linear).unwrap().layer;
    }
    let folder = tempfile::tempdir().unwrap();
    save(&model, folder.path());
    let loaded = load(folder.path());
    assert_same(&loaded, &model, "compressed");
    let rank = "low-rank:r=4".parse().unwrap();
    let names = ["h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj"];
    assert_eq!(loaded.config().unwrap().structures, LayerRules::of_layers(names.map(|name| (name, rank))));
}

#[test]
fn tokenizer_is_saved_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("", None);
    model.save_folder(folder.path().join("new/folder"), Some(&Tokenizer::characters_of("structured"))).unwrap();
    assert_eq!(file_names(&folder.path().join("new/folder")), ["config.json", "model.safetensors", "text.json"]);
    let tokenizer = Tokenizer::from_folder(folder.path().join("new/folder")).unwrap();
    assert_eq!(tokenizer.vocab_size(), 7);
}
