//! Saved and loaded again, to the bit.

use super::{Decoder, Settings, Tested, for_every_decoder, random};
use crate::decoder::testing::{file_names, random_tokens};
use crate::testing::parameters;
use crate::weights::{self, block_weights};
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, Manifest};
use burn_structured_nn::BlockModel;
use std::fs;
use std::path::Path;

for_every_decoder! {
    every_structure_survives_saving_and_loading,
    tied_and_structured_heads_survive,
    int8_folder_survives_saving_and_loading,
    block_is_saved_and_loaded_alone,
}

fn model<M: Tested>(settings: &Settings) -> M {
    random(settings, &Device::flex())
}

fn load<M: Tested>(folder: &Path) -> M {
    M::from_folder(folder, &Device::flex()).unwrap()
}

fn assert_same<M: Tested>(found: &M, expected: &M, what: &str) {
    assert_eq!(found.configuration(), expected.configuration(), "{what}");
    assert_eq!(parameters(found), parameters(expected), "{what}");
    let tokens = random_tokens(2, 10, 17, &Device::flex());
    assert_eq!(found.forward(tokens.clone()).into_data(), expected.forward(tokens).into_data(), "{what}");
}

fn every_structure_survives_saving_and_loading<M: Tested>() {
    for rules in [
        "dense",
        "blast:b=2x4,ratio=0.5",
        "low-rank:r=3",
        "ss1:c=2,k=4,n=8",
        "ss1:c=2,k=3,n=7,hash=independent,seed=11",
        "monarch:b=2,r=2",
        "block-diagonal:ratio=0.3",
        "pixelfly:b=4,stride=2,r=2",
        "gaudi:r=4,width=0.3",
        "gaudi:r=4,sigma=2.5,windows=sharp",
        "btt:ratio=0.5",
        "kronecker:b=auto,r=2",
        "first=dense;attention=blast:b=2,r=4;mlp=low-rank:ratio=0.4",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model: M = model(&Settings::structures(rules));
        model.save(folder.path());
        let loaded: M = load(folder.path());
        assert_same(&loaded, &model, rules);
        let files = || ["config.json", "model.safetensors"].map(|name| fs::read(folder.path().join(name)).unwrap());
        let before = files();
        loaded.save(folder.path());
        assert_eq!(files(), before, "{rules}");
        assert_eq!(file_names(folder.path()), ["config.json", "model.safetensors"]);
    }
}

fn tied_and_structured_heads_survive<M: Tested>() {
    let tied = Settings::structures("mlp=monarch:b=2,r=1");
    let heads = ["dense", "low-rank:r=3", "ss1:c=2,k=4,n=8"].map(|head| tied.clone().with_head(head));
    for settings in heads.into_iter().chain([tied]) {
        let folder = tempfile::tempdir().unwrap();
        let model: M = model(&settings);
        model.save(folder.path());
        assert_same(&load(folder.path()), &model, &format!("{:?}", settings.head));
    }
}

fn int8_folder_survives_saving_and_loading<M: Tested>() {
    let tied = Settings::structures("last=dense;blast:b=2,r=3");
    for settings in [tied.clone(), tied.with_head("low-rank:r=4")] {
        let floats: M = model(&settings);
        let small = floats.clone().quantized();
        let folder = tempfile::tempdir().unwrap();
        small.save(folder.path());
        let found: M = load(folder.path());
        let head = settings.head;
        assert_eq!(parameters(&found), parameters(&small), "{head:?}");
        // All of them, the head as well.
        assert!(found.layers().iter().all(|(_, layer)| layer.is_int8()), "{head:?}");
        // The integers are counted; a tied head is a layer of its own in int8.
        let rest = |model: &M| Decoder::cost(model).params - Decoder::cost(model).replaced.params;
        assert_eq!(rest(&small), rest(&floats), "{head:?}");
        let tokens = || random_tokens(2, 10, 17, &Device::flex());
        let logits = [&found, &small, &floats].map(|model| model.forward(tokens()).into_data());
        assert_eq!(logits[0], logits[1], "{head:?}");
        let (mut error, mut size) = (0.0, 0.0);
        for (small, float) in logits[0].iter::<f64>().zip(logits[2].iter::<f64>()) {
            error += (small - float).powi(2);
            size += float.powi(2);
        }
        assert!(error > 0.0 && (error / size).sqrt() < 0.1, "{head:?}: {error} of {size}");
    }
}

fn block_is_saved_and_loaded_alone<M: Tested>() {
    let folder = tempfile::tempdir().unwrap();
    let dense: M = model(&Settings::default());
    dense.save(folder.path());
    let mut compressed = dense.clone();
    let other: M = model(&Settings::structures("attention=low-rank:r=2;mlp=blast:b=2,r=3"));
    compressed.blocks_mut()[1] = other.blocks()[1].clone();
    let weights = block_weights(&compressed, 1, &Checkpoint::open(folder.path()).unwrap()).unwrap();
    assert!(weights.tensors.iter().all(|tensor| tensor.name.starts_with(&format!("{}1.", M::BLOCKS))));
    assert_eq!(weights.layers.len(), BlockModel::linears(&dense, 1).len());
    let shard = folder.path().join("block.safetensors");
    let mut metadata = Default::default();
    Manifest { layers: weights.layers, ..Manifest::new("a test", 0) }.insert_into(&mut metadata);
    burn_structured_checkpoint::write(&shard, &weights.tensors, &metadata).unwrap();
    let mut loaded: M = load(folder.path());
    weights::load(&mut loaded, &Checkpoint::open(&shard).unwrap(), Some(1), &Device::flex()).unwrap();
    assert_same(&loaded, &compressed, "one block");
}
