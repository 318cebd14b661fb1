//! Runs as a whole, undisturbed and interrupted.

mod blockwise;
mod disturbed;
mod layerwise;
mod quantize;
mod to_dense;
mod verify;

use super::*;
use crate::CompressError;
use crate::plan::Plan;
use crate::toy::Toy;
use burn::tensor::Device;
use burn_structured_checkpoint::{
    self as checkpoint, Checkpoint, Dtype, LayerEntry, Orientation, StateDict, TensorData,
};
use burn_structured_nn::{BlockModel, StructuredLinear};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn device() -> Device {
    Device::flex()
}

fn quiet(_: &Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn plan(text: &str) -> Plan {
    let rules = text.lines().map(|line| {
        let (pattern, structure) = line.split_once(' ').unwrap();
        format!("[[rule]]\npattern = '{pattern}'\nstructure = '{structure}'\n")
    });
    Plan::from_toml(&format!("format = 1\n{}", rules.collect::<String>())).unwrap()
}

/// All structures that have factors of their own, and a layer that stays dense.
fn mixed_plan() -> Plan {
    plan(
        "blocks.0.up blast:b=3,r=3\nblocks.0.down low-rank:r=4\nblocks.1.up ss1:c=2,k=3,n=6\nblocks.1.gate monarch:b=2,r=2",
    )
}

/// The dense layers of the model, and tensors of other kinds, in a folder with other files.
fn write_model(folder: &Path, model: &Toy, dtype: Dtype) -> Checkpoint {
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    fs::create_dir_all(folder.join("onnx")).unwrap();
    for (file, text) in [
        ("config.json", "{}"),
        ("tokenizer.json", "{\"a\": 1}"),
        ("LICENSE", "free"),
        ("1_Pooling/config.json", "{\"pooling\": 1}"),
        ("onnx/model.onnx", "weights"),
        ("pytorch_model.bin", "weights"),
        (".hidden.json", "secret"),
        ("model.safetensors.index.json", "{}"),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
    let mut tensors = Vec::new();
    for block in 0..model.blocks().len() {
        for (name, layer) in model.linears(block) {
            tensors
                .extend(checkpoint::layer_tensors(&name, layer).into_iter().map(|tensor| tensors::cast(tensor, dtype)));
        }
    }
    let other = |name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>| TensorData {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        bytes: Cow::Owned(bytes),
    };
    tensors.push(other("embeddings.word.weight", Dtype::F16, &[2, 3], (0..12).collect()));
    tensors.push(other("position_ids", Dtype::I64, &[1, 2], (0..16).collect()));
    tensors.push(other("empty", Dtype::F32, &[0], Vec::new()));
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    checkpoint::write(&folder.join("model.safetensors"), &tensors, &metadata).unwrap();
    Checkpoint::open(folder).unwrap()
}

/// The files of a folder by path, without what differs from run to run.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().unwrap() != "run.json" {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn save(model: &Toy, block: usize) -> StateDict<'static> {
    let (mut tensors, mut layers) = (Vec::new(), BTreeMap::new());
    for (name, layer) in model.linears(block) {
        tensors.extend(checkpoint::layer_tensors(&name, layer));
        if !matches!(layer, StructuredLinear::Dense(_)) {
            let entry = checkpoint::layer_entry(layer, Orientation::OutIn, Dtype::F32, None).unwrap();
            layers.insert(name, entry);
        }
    }
    StateDict { tensors, layers }
}

fn load(model: &mut Toy, block: usize, shard: &Checkpoint) -> Result<(), checkpoint::CheckpointError> {
    let names: Vec<String> = model.linears(block).into_iter().map(|(name, _)| name).collect();
    for (name, layer) in names.into_iter().zip(Toy::linears_mut(&mut model.blocks_mut()[block])) {
        *layer = checkpoint::layer(shard, &name, &device())?;
    }
    Ok(())
}

/// A temporary folder with a model in it.
struct Scene {
    folder: tempfile::TempDir,
    model: Toy,
    source: Checkpoint,
}

impl Scene {
    fn new(dtype: Dtype) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = Toy::new(3, 5);
        let source = write_model(&folder.path().join("model"), &model, dtype);
        // As it is stored.
        let mut model = model;
        for block in 0..3 {
            load(&mut model, block, &source).unwrap();
        }
        Self { folder, model, source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self, name: &str) -> Output {
        Output::new(self.path(name))
    }

    fn compress(&self, plan: &Plan, output: &Output) -> Result<Finished, CompressError> {
        compress_checkpoint(&self.source, plan, None, &LayerwiseConfig::new(), output, &device(), &mut quiet)
    }
}

fn entry<'a>(layers: &'a BTreeMap<String, LayerEntry>, name: &str) -> &'a LayerEntry {
    &layers[name]
}
