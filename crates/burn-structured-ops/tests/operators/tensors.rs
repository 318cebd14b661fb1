//! Tensors of any layout, and back.

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, get_device_settings};
use burn::tensor::{DType, Slice, TensorData};
use safetensors::SafeTensors;
use std::path::PathBuf;

/// The memory layout of operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    Contiguous,
    /// Stored with their axes in reverse order.
    Permuted,
    /// A window of something larger.
    Sliced,
    /// One token, repeated by a stride of zero; for cases whose tokens are equal. The factors are contiguous.
    Broadcast,
}

/// Small multiples of 1/16, which every float type holds exactly; `salt` tells one draw from another.
pub fn draw(len: usize, salt: usize) -> Vec<f64> {
    (0..len).map(|index| (((index + 1) * (salt * 2 + 7919)) % 31) as f64 / 16.0 - 15.0 / 16.0).collect()
}

/// Uploads `values` of `shape` with the given memory `layout`.
pub fn place<B: Backend>(
    values: &[f64],
    shape: &[usize],
    dtype: DType,
    layout: Layout,
    device: &B::Device,
) -> FloatTensor<B> {
    let upload = |values: Vec<f64>, shape: Vec<usize>| {
        B::float_from_data(TensorData::new(values, shape).convert_dtype(dtype), device)
    };
    match layout {
        Layout::Contiguous | Layout::Broadcast => upload(values.to_vec(), shape.to_vec()),
        Layout::Permuted => {
            let axes: Vec<usize> = (0..shape.len()).rev().collect();
            let reversed: Vec<usize> = shape.iter().rev().copied().collect();
            let mut stored = vec![0.0; values.len()];
            for (index, value) in values.iter().enumerate() {
                let (mut rest, mut position, mut stride) = (index, 0, values.len());
                for size in reversed.iter() {
                    stride /= size;
                    position += rest % size * stride;
                    rest /= size;
                }
                stored[position] = *value;
            }
            B::float_permute(upload(stored, reversed), &axes)
        }
        Layout::Sliced => {
            let larger: Vec<usize> = shape.iter().map(|size| size + 2).collect();
            let mut stored = vec![f64::NAN; larger.iter().product()];
            for (index, value) in values.iter().enumerate() {
                let (mut rest, mut position, mut stride) = (index, 0, 1);
                for (size, larger) in shape.iter().zip(&larger).rev() {
                    position += (rest % size + 1) * stride;
                    rest /= size;
                    stride *= larger;
                }
                stored[position] = *value;
            }
            let window: Vec<Slice> = shape.iter().map(|size| Slice::from(1..size + 1)).collect();
            B::float_slice(upload(stored, larger), &window)
        }
    }
}

/// Uploads `values` of `shape` in the device's own kind of booleans.
pub fn place_bool<B: Backend>(values: Vec<bool>, shape: &[usize], device: &B::Device) -> BoolTensor<B> {
    let dtype = get_device_settings::<B>(device).bool_dtype;
    B::bool_from_data(TensorData::new(values, shape).convert_dtype(dtype.into()), device)
}

pub fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64> {
    let data = burn::tensor::read_sync(B::float_into_data(tensor)).expect("the device can be read");
    data.convert::<f64>().try_into_vec::<f64>().expect("f64 values")
}

/// A file of reference tensors.
pub struct ReferenceFile {
    pub name: String,
    bytes: Vec<u8>,
}

impl ReferenceFile {
    /// Shape and values of a tensor in f64.
    pub fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.name));
        assert_eq!(tensor.dtype(), safetensors::Dtype::F64, "{}: {name}", self.name);
        let values = tensor.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        (tensor.shape().to_vec(), values.collect())
    }

    /// A setting of the structure, as JSON.
    pub fn setting(&self, name: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).expect("a safetensors file");
        let settings = metadata.metadata().clone().unwrap_or_default();
        settings.get(name).unwrap_or_else(|| panic!("{}: no setting {name}", self.name)).clone()
    }

    fn structure(&self) -> Option<String> {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).expect("a safetensors file");
        metadata.metadata().as_ref()?.get("structure").map(|name| name.trim_matches('"').to_string())
    }
}

/// The reference files about `structure`: the crate's own, or those of the folder named by `BURN_STRUCTURED_FIXTURES`.
pub fn reference_files(structure: &str) -> Vec<ReferenceFile> {
    let folder = std::env::var_os("BURN_STRUCTURED_FIXTURES")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("tests/fixtures"));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| ReferenceFile {
        name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
        bytes: std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    let files: Vec<_> = paths.iter().map(read).filter(|file| file.structure().as_deref() == Some(structure)).collect();
    assert!(!files.is_empty(), "no reference file about {structure} in {}", folder.display());
    files
}
