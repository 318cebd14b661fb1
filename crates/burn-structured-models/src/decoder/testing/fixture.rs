//! Small checkpoints of Hugging Face's layout, and what NumPy computes from them.

use crate::decoder::DecoderError;
use burn::tensor::{DType, Device, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// One tensor of a file: type, shape and bytes.
pub type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// The tensors of a safetensors file by their names.
#[derive(Clone)]
pub struct Tensors(pub BTreeMap<String, Stored>);

impl Tensors {
    pub fn read(path: &Path) -> Self {
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

    pub fn data(&self, name: &str) -> TensorData {
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

/// A model with a checkpoint in `tests/fixtures`.
pub trait FixtureModel: Sized {
    /// The name of its folder.
    const FAMILY: &'static str;

    fn from_folder(folder: &Path, device: &Device) -> Result<Self, DecoderError>;
}

/// A model folder in memory.
pub struct Checkpoint<M> {
    pub config: Value,
    pub tensors: Tensors,
    model: PhantomData<M>,
}

impl<M: FixtureModel> Checkpoint<M> {
    pub fn fixture() -> Self {
        let folder = Self::fixture_folder();
        let config = serde_json::from_slice(&fs::read(folder.join(CONFIG)).unwrap()).unwrap();
        Self { config, tensors: Tensors::read(&folder.join(WEIGHTS)), model: PhantomData }
    }

    pub fn fixture_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(M::FAMILY)
    }

    /// A tensor of what NumPy computed.
    pub fn expected(name: &str) -> TensorData {
        Tensors::read(&Self::fixture_folder().join("expected.safetensors")).data(name)
    }

    /// The names of the tensors, each changed by `rename`.
    pub fn renamed(mut self, rename: impl Fn(String) -> String) -> Self {
        self.tensors.0 = self.tensors.0.into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
        self
    }

    /// Every float tensor in another type.
    pub fn converted(mut self, dtype: DType, stored_as: Dtype) -> Self {
        let floats: Vec<String> =
            self.tensors.0.keys().filter(|name| self.tensors.0[*name].0 == Dtype::F32).cloned().collect();
        for name in floats {
            let bytes = self.tensors.data(&name).convert_dtype(dtype).as_bytes().to_vec();
            let tensor = self.tensors.0.get_mut(&name).unwrap();
            (tensor.0, tensor.2) = (stored_as, bytes);
        }
        self
    }

    pub fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG), self.config.to_string()).unwrap();
        fs::write(folder.path().join(WEIGHTS), self.tensors.bytes()).unwrap();
        folder
    }

    pub fn load(&self) -> Result<M, DecoderError> {
        M::from_folder(self.folder().path(), &Device::flex())
    }
}

/// The names of the files in a folder.
pub fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
