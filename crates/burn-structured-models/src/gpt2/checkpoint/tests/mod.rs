//! The checkpoint that `tests/fixtures/gpt2/generate.py` made, changed in one way or another.

mod broken;
mod files;
mod reference;
mod round_trip;

use super::CONFIG;
use crate::gpt2::{Gpt2, Gpt2Error};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const WEIGHTS: &str = "model.safetensors";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2").join(name)
}

/// One tensor of a file: type, shape and bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// The tensors of a safetensors file by their names.
#[derive(Clone)]
struct Tensors(BTreeMap<String, Stored>);

impl Tensors {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stored = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self(file.iter().map(|(name, view)| (name.to_string(), stored(view))).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let tensors = self.0.iter();
        let views =
            tensors.map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn data(&self, name: &str) -> TensorData {
        let (dtype, shape, bytes) = &self.0[name];
        let dtype = match dtype {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            other => panic!("the fixtures hold no {other:?}"),
        };
        TensorData::from_bytes_vec(bytes.clone(), shape.clone(), dtype)
    }
}

/// A model folder in memory.
#[derive(Clone)]
struct Checkpoint {
    config: Value,
    tensors: Tensors,
}

impl Checkpoint {
    fn fixture() -> Self {
        let config = serde_json::from_slice(&fs::read(fixture(CONFIG)).unwrap()).unwrap();
        Self { config, tensors: Tensors::read(&fixture(WEIGHTS)) }
    }

    /// The names of the tensors, each changed by `rename`.
    fn renamed(mut self, rename: impl Fn(String) -> String) -> Self {
        self.tensors.0 = self.tensors.0.into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
        self
    }

    /// Every float tensor in another type.
    fn converted(mut self, dtype: DType, stored_as: Dtype) -> Self {
        let floats: Vec<String> =
            self.tensors.0.keys().filter(|name| self.tensors.0[*name].0 == Dtype::F32).cloned().collect();
        for name in floats {
            let bytes = self.tensors.data(&name).convert_dtype(dtype).as_bytes().to_vec();
            let tensor = self.tensors.0.get_mut(&name).unwrap();
            (tensor.0, tensor.2) = (stored_as, bytes);
        }
        self
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG), self.config.to_string()).unwrap();
        fs::write(folder.path().join(WEIGHTS), self.tensors.bytes()).unwrap();
        folder
    }

    fn load(&self) -> Result<Gpt2, Gpt2Error> {
        Gpt2::from_folder(self.folder().path(), &Device::flex())
    }
}

/// The tokens of the fixture, `[2, 10]`.
fn tokens() -> Tensor<2, Int> {
    let expected = Tensors::read(&fixture("expected.safetensors"));
    Tensor::from_data(expected.data("tokens"), &Device::flex())
}

/// The names of the files in a folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
