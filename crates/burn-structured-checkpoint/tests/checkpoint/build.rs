//! Files to be read.

use burn_structured_checkpoint::{Checkpoint, Dtype, TensorData, write};
use std::collections::BTreeMap;
use std::path::Path;

/// A safetensors file with any header.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

/// A tensor of the values 0, 1, 2, …
pub fn counting(name: &str, shape: &[usize]) -> TensorData<'static> {
    let count: usize = shape.iter().product();
    floats(name, shape, &(0..count).map(|value| value as f32).collect::<Vec<_>>())
}

pub fn floats(name: &str, shape: &[usize], values: &[f32]) -> TensorData<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorData { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytes.into() }
}

/// The tensors of these names and shapes, in a checkpoint.
pub fn checkpoint(shapes: &[(&str, &[usize])]) -> Checkpoint {
    let tensors: Vec<_> = shapes.iter().map(|(name, shape)| counting(name, shape)).collect();
    of_tensors(&tensors, &BTreeMap::new())
}

pub fn of_tensors(tensors: &[TensorData<'_>], metadata: &BTreeMap<String, String>) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, tensors, metadata).unwrap();
    Checkpoint::from_bytes(std::fs::read(path).unwrap()).unwrap()
}

/// A folder with these files.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The error of opening a path, as its message.
pub fn refused(path: impl AsRef<Path>) -> String {
    Checkpoint::open(path).unwrap_err().to_string()
}
