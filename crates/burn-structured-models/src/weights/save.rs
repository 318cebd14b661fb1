//! From a model into a checkpoint.

use super::layout::ToCheckpoint;
use super::{CheckpointModel, WeightsError};
use burn::tensor::DType;
use burn_store::burn_pack::Tensor;
use burn_structured_checkpoint::{
    self as checkpoint, Checkpoint, CheckpointError, Dtype, LayerEntry, Manifest, Orientation, StateDict, TensorData,
    files,
};
use burn_structured_nn::{Structure, StructuredLinear};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The files of a model folder.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// The weights until they take the place of earlier ones.
const SCRATCH: &str = ".model.safetensors.new";

/// Writes `config` to `config.json`, and the tensors with their manifest to `model.safetensors`.
///
/// Each file is complete or absent. If `config.json` changes, the earlier one is removed before the weights are replaced, so
/// that a folder never holds the configuration of one model and the weights of another.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write_folder(weights: StateDict<'_>, folder: &Path, config: &Value) -> Result<(), WeightsError> {
    // What `transformers` wants to see before it takes the tensors for PyTorch's.
    let mut metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    if !weights.layers.is_empty() {
        let tool = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        Manifest { layers: weights.layers, ..Manifest::new(tool, 0) }.insert_into(&mut metadata);
    }
    let (config_path, weights_path) = (folder.join(CONFIG), folder.join(WEIGHTS));
    let config = format!("{config:#}\n");
    let scratch = Scratch(folder.join(SCRATCH));
    checkpoint::write(&scratch.0, &weights.tensors, &metadata).map_err(|error| match error {
        CheckpointError::Write { source, .. } => CheckpointError::Write { path: weights_path.clone(), source },
        other => other,
    })?;
    remove_unless(&config_path, &config).map_err(|error| WeightsError::write(&config_path, error))?;
    fs::rename(&scratch.0, &weights_path).map_err(|error| WeightsError::write(&weights_path, error))?;
    files::replace(&config_path, config.as_bytes()).map_err(|error| WeightsError::write(&config_path, error))
}

/// All tensors of a model under a checkpoint's names.
///
/// # Errors
///
/// If a layer has no place in a checkpoint.
pub(crate) fn all_weights<M: CheckpointModel + 'static>(model: &M) -> Result<StateDict<'static>, WeightsError> {
    let name = |path: &str| M::NAMES.with_prefix(&M::NAMES.name(path), M::SAVED_PREFIX);
    weights(model, None, name, |_| None)
}

/// The tensors of one block under the names that `dense` gives them, the checkpoint of the model before it was compressed.
///
/// # Errors
///
/// If a layer has no place in a checkpoint.
pub(crate) fn block_weights<M: CheckpointModel + 'static>(
    model: &M,
    block: usize,
    dense: &Checkpoint,
) -> Result<StateDict<'static>, WeightsError> {
    let known: BTreeMap<String, &str> = dense
        .tensors()
        .filter_map(|tensor| Some((M::NAMES.module_path(&tensor.name)?, tensor.name.as_str())))
        .collect();
    let prefixed = known.values().any(|name| name.starts_with(M::NAMES.prefix));
    let prefix = if prefixed { M::NAMES.prefix } else { "" };
    let name = |path: &str| match known.get(path) {
        Some(name) => name.to_string(),
        None => M::NAMES.with_prefix(&M::NAMES.name(path), prefix),
    };
    weights(model, Some(block), name, |weight| Some(dense.tensor(weight)?.dtype))
}

/// All tensors of a model, or those of one block, each named by `name` from its module path; `dense_dtype` is the type of a dense
/// weight of that name, where it is known to be another than that of the factors.
fn weights<M: CheckpointModel + 'static>(
    model: &M,
    block: Option<usize>,
    name: impl Fn(&str) -> String,
    dense_dtype: impl Fn(&str) -> Option<Dtype>,
) -> Result<StateDict<'static>, WeightsError> {
    let within = block.map(|block| M::NAMES.block_path(block)).unwrap_or_default();
    let tensors = model.collect(None, Some(Box::new(ToCheckpoint::<M>(PhantomData))), true);
    let tensors: Vec<Tensor> = tensors.into_iter().filter(|tensor| tensor.name.starts_with(&within)).collect();
    let mut layers = BTreeMap::new();
    for (layer_name, layer) in model.layers() {
        let weight = format!("{layer_name}.weight");
        let weight = M::NAMES.module_path(&weight).unwrap_or(weight);
        if !weight.starts_with(&within) {
            continue;
        }
        if matches!(layer, StructuredLinear::Dense(_)) {
            check_bias(layer, layer_name, M::has_bias)?;
            continue;
        }
        let (path, weight) = (weight.trim_end_matches("weight"), name(&weight));
        let factor = tensors.iter().find(|tensor| tensor.name.starts_with(path) && tensor.dtype.is_float());
        let dtype = dense_dtype(&weight).or_else(|| stored_dtype(factor?.dtype)).unwrap_or(Dtype::F32);
        let entry = entry_of(&layer_name, layer, M::orientation(&layer_name), dtype)?;
        layers.insert(weight.trim_end_matches(".weight").to_string(), entry);
    }
    let tensors =
        tensors.into_iter().map(|tensor| tensor_data(name(&tensor.name), tensor)).collect::<Result<_, _>>()?;
    Ok(StateDict { tensors, layers })
}

/// The structure of a layer that a checkpoint can describe.
///
/// # Errors
///
/// If no checkpoint can.
pub(crate) fn structure_of(name: &str, layer: &StructuredLinear) -> Result<Structure, WeightsError> {
    if !matches!(layer, StructuredLinear::Dense(_)) {
        entry_of(name, layer, Orientation::OutIn, Dtype::F32)?;
    }
    Ok(layer.structure().expect("a layer that can be described has a structure"))
}

/// What the manifest says of a layer that is not dense.
fn entry_of(
    name: &str,
    layer: &StructuredLinear,
    orientation: Orientation,
    dtype: Dtype,
) -> Result<LayerEntry, WeightsError> {
    checkpoint::layer_entry(layer, orientation, dtype, None).map_err(|error| match error {
        CheckpointError::Unsaveable { reason } => WeightsError::Unsaveable { layer: name.to_string(), problem: reason },
        other => other.into(),
    })
}

/// A tensor in the form in which files are written.
fn tensor_data(name: String, tensor: Tensor) -> Result<TensorData<'static>, WeightsError> {
    let error = |reason| CheckpointError::TensorData { name: name.clone(), reason };
    let dtype = stored_dtype(tensor.dtype).ok_or_else(|| error(format!("safetensors has no {:?}", tensor.dtype)))?;
    let shape = tensor.shape.to_vec();
    let bytes = tensor.into_bytes().map_err(|reason| error(reason.to_string()))?;
    Ok(TensorData { name, dtype, shape, bytes: Cow::Owned(bytes.to_vec()) })
}

/// The type that a device's numbers have in a file.
fn stored_dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        _ => return None,
    })
}

/// Checkpoints say nothing of the bias of a dense layer, which is there in some layers and in others not.
fn check_bias(layer: &StructuredLinear, name: String, has_bias: fn(&str) -> bool) -> Result<(), WeightsError> {
    let problem = match (layer.bias().is_some(), has_bias(&name)) {
        (false, true) => "it has no bias, which it has in every checkpoint; give it one of zeros",
        (true, false) => "it has a bias, which it has in no checkpoint; use a layer without",
        _ => return Ok(()),
    };
    Err(WeightsError::Unsaveable { layer: name, problem })
}

/// A file that is removed unless it was given another name.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the file at `path` unless it holds `text`.
fn remove_unless(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|earlier| earlier == text) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
