//! Compressed encoders, saved and loaded.

use super::{Bert, Checkpoint as Dense, batch};
use crate::bert::{BertConfig, BertError, TokenBatch};
use crate::testing::{Stored, parameters, read_stored, write_shards, write_stored};
use burn::tensor::{Device, TensorData};
use burn_structured_checkpoint::{Checkpoint, Manifest};
use burn_structured_nn::{Structure, StructuredLinear};
use std::fs;
use std::path::Path;

/// The random checkpoint with every layer approximated by one of these structures in turn.
fn compressed(structures: &[&str]) -> Bert {
    let mut model = Dense::random(12).load("").unwrap();
    for ((_, layer), structure) in model.linears_mut().zip(structures.iter().cycle()) {
        let StructuredLinear::Dense(linear) = &*layer else { panic!("a fresh checkpoint is dense") };
        let structure: Structure = structure.parse().unwrap();
        *layer = structure.approximate(linear).unwrap().layer;
    }
    model
}

fn load(folder: &Path) -> Result<Bert, BertError> {
    Bert::from_folder(folder, &Device::flex())
}

fn embed(model: &Bert) -> TensorData {
    let TokenBatch { tokens, mask } = batch(&[&[2, 7, 3], &[2, 4, 5, 6, 3]]);
    model.embed(tokens, mask).into_data()
}

fn assert_same(found: &Bert, expected: &Bert) {
    assert_eq!(parameters(found), parameters(expected));
    let structures = |model: &Bert| model.linears().map(|(_, layer)| layer.structure()).collect::<Vec<_>>();
    assert_eq!(structures(found), structures(expected));
    assert_eq!(embed(found), embed(expected));
}

const MIXED: [&str; 5] =
    ["blast:b=2,r=3", "dense", "low-rank:r=2", "monarch:b=2,r=1", "ss1:c=2,k=4,n=4,hash=independent,seed=3"];

#[test]
fn dense_folder_survives_loading_and_saving() {
    let folder = Dense::random(11).folder("bert.");
    let model = load(folder.path()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    model.save_folder(saved.path()).unwrap();
    assert_same(&load(saved.path()).unwrap(), &model);
    let (mut original, _) = read_stored(folder.path());
    original.retain(|(name, ..)| !name.contains("position_ids") && !name.contains("pooler") && !name.contains("cls"));
    let without_prefix = |(name, dtype, shape, bytes): Stored| (name[5..].to_string(), dtype, shape, bytes);
    let (found, metadata) = read_stored(saved.path());
    assert_eq!(found, original.into_iter().map(without_prefix).collect::<Vec<_>>());
    assert_eq!(metadata.into_iter().collect::<Vec<_>>(), [("format".into(), "pt".into())]);
}

#[test]
fn int8_folder_survives_saving_and_loading() {
    let floats = compressed(&MIXED);
    let model = floats.clone().quantize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path()).unwrap();
    let found = load(folder.path()).unwrap();
    assert_same(&found, &model);
    assert!(found.linears().all(|(_, layer)| layer.is_int8()));
    let (found, floats) = (embed(&found), embed(&floats));
    let error = found.iter::<f32>().zip(floats.iter::<f32>()).map(|(found, float)| (found - float).abs());
    assert!(error.fold(0.0, f32::max) < 0.05);
}

#[test]
fn compressed_folder_survives_saving_and_loading() {
    let model = compressed(&MIXED);
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path()).unwrap();
    let loaded = load(folder.path()).unwrap();
    assert_same(&loaded, &model);
    let files = || ["config.json", "model.safetensors"].map(|name| fs::read(folder.path().join(name)).unwrap());
    let before = files();
    loaded.save_folder(folder.path()).unwrap();
    assert_eq!(files(), before);
    let manifest = Checkpoint::open(folder.path()).unwrap().manifest().unwrap().unwrap();
    let entry = &manifest.layers["encoder.layer.0.attention.self.query"];
    assert_eq!((entry.structure.as_str(), entry.dtype.as_str()), ("blast:b=2x2,r=3", "F32"));
    assert!(!manifest.layers.contains_key("encoder.layer.0.attention.self.key"));
}

#[test]
fn layers_take_the_structures_of_the_file() {
    let dense = Dense::random(13).folder("");
    let config = BertConfig::from_file(dense.path().join("config.json")).unwrap();
    let structured = config.with_structure("low-rank:r=2".parse().unwrap()).init(&Device::flex());
    assert_same(&structured.with_weights(dense.path()).unwrap(), &load(dense.path()).unwrap());
}

#[test]
fn compressed_names_may_have_a_prefix() {
    let model = compressed(&MIXED);
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path()).unwrap();
    let (mut tensors, mut metadata) = read_stored(folder.path());
    tensors.iter_mut().for_each(|(name, ..)| *name = format!("bert.{name}"));
    let mut manifest: Manifest = serde_json::from_str(&metadata["burn_structured"]).unwrap();
    manifest.layers = manifest.layers.into_iter().map(|(name, entry)| (format!("bert.{name}"), entry)).collect();
    manifest.insert_into(&mut metadata);
    write_stored(folder.path(), &tensors, &metadata);
    assert_same(&load(folder.path()).unwrap(), &model);
}

#[test]
fn compressed_weights_may_be_in_several_files() {
    let model = compressed(&MIXED);
    let folder = tempfile::tempdir().unwrap();
    model.save_folder(folder.path()).unwrap();
    write_shards(folder.path(), 3);
    assert!(!folder.path().join("model.safetensors").exists());
    assert_same(&load(folder.path()).unwrap(), &model);
}

#[test]
fn description_must_fit_the_model() {
    let folder = tempfile::tempdir().unwrap();
    compressed(&MIXED).save_folder(folder.path()).unwrap();
    let (tensors, metadata) = read_stored(folder.path());
    let message = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest: Manifest = serde_json::from_str(&metadata["burn_structured"]).unwrap();
        change(&mut manifest);
        let mut metadata = metadata.clone();
        manifest.insert_into(&mut metadata);
        write_stored(folder.path(), &tensors, &metadata);
        load(folder.path()).unwrap_err().to_string()
    };
    let query = "encoder.layer.0.attention.self.query";
    let size = message(&|manifest| manifest.layers.get_mut(query).unwrap().d_output = 16);
    assert!(size.contains(&format!("model.safetensors: the layer {query} is 8 → 16 instead of 8 → 8; ")), "{size}");
    let undescribed = message(&|manifest| drop(manifest.layers.remove(query)));
    assert!(undescribed.contains(&format!("model.safetensors lacks {query}.weight; ")), "{undescribed}");
    let format = message(&|manifest| manifest.format = 2);
    assert!(format.contains("has format 2"), "{format}");

    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let fewer = config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    fs::write(folder.path().join("config.json"), fewer).unwrap();
    let unknown = message(&|_| ());
    assert!(unknown.contains("describes the layer encoder.layer.1."), "{unknown}");
}

#[test]
fn block_is_saved_under_the_names_of_the_dense_checkpoint() {
    let mut old = Dense::random(12);
    let renamed = |name: String| match name.strip_suffix("LayerNorm.weight") {
        Some(module) => format!("{module}LayerNorm.gamma"),
        None => name,
    };
    old.tensors = old.tensors.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect();
    let dense = old.folder("bert.");
    let (model, checkpoint) = (compressed(&MIXED), Checkpoint::open(dense.path()).unwrap());
    let weights = model.block_weights(1, &checkpoint).unwrap();
    let names: Vec<&str> = weights.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert!(names.iter().all(|name| name.starts_with("bert.encoder.layer.1.")), "{names:?}");
    for name in ["intermediate.dense.v", "output.dense.bias", "output.LayerNorm.gamma", "output.LayerNorm.bias"] {
        assert!(names.contains(&format!("bert.encoder.layer.1.{name}").as_str()), "{name}: {names:?}");
    }
    let described = weights.layers.keys().all(|name| name.starts_with("bert.encoder.layer.1."));
    assert!(described && weights.layers.len() == 4, "{:?}", weights.layers);

    // The file of one block is enough to replace that block.
    let shard = dense.path().join("block.safetensors");
    let mut metadata = Default::default();
    Manifest { layers: weights.layers, ..Manifest::new("a test", 0) }.insert_into(&mut metadata);
    burn_structured_checkpoint::write(&shard, &weights.tensors, &metadata).unwrap();
    let mut loaded = load(dense.path()).unwrap();
    loaded.load_block(1, &Checkpoint::open(&shard).unwrap()).unwrap();
    let mut expected = load(dense.path()).unwrap();
    expected.layers[1] = model.layers[1].clone();
    assert_same(&loaded, &expected);
    let message = loaded.load_block(0, &Checkpoint::open(&shard).unwrap()).unwrap_err().to_string();
    assert!(message.contains("block.safetensors lacks encoder.layer.0.attention.output.LayerNorm.bias"), "{message}");
}
