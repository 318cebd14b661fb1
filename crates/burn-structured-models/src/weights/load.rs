//! From a checkpoint into a model.

use super::layout::{FromCheckpoint, ToCheckpoint};
use super::{CheckpointModel, WeightsError};
use burn::tensor::Device;
use burn_store::burn_pack::Tensor;
use burn_store::{ApplyError, ModuleStore, SafetensorsStore};
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, CheckpointError, LayerEntry};
use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

/// Loads all tensors of `model`, or those of one block. Its layers take the structures that the checkpoint describes; the others
/// are dense.
///
/// # Errors
///
/// If a tensor is missing, has another shape or no float type, or belongs to a block or layer that the model does not have.
/// Tensors outside of the blocks that the model does not have are passed over.
pub(crate) fn load<M: CheckpointModel + 'static>(
    model: &mut M,
    checkpoint: &Checkpoint,
    block: Option<usize>,
    device: &Device,
) -> Result<(), WeightsError> {
    let path = file_of(checkpoint);
    structure_layers(model, checkpoint, block, device)?;
    let within = block.map(|block| M::NAMES.block_path(block)).unwrap_or_default();
    let mut tensors = Vec::new();
    for mut tensor in read_tensors(checkpoint)? {
        let name = M::NAMES.without_prefix(&tensor.name);
        match M::NAMES.module_path(name) {
            Some(path) if path.starts_with(&within) => {
                tensor.name = path;
                tensors.push(tensor);
            }
            Some(_) => {}
            None if M::NAMES.block_of(name).is_some() && !M::NAMES.is_buffer(name) => {
                return Err(WeightsError::UnknownTensor { path: path.to_owned(), name: name.into() });
            }
            None => {}
        }
    }
    let found = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.to_vec())).collect();
    let result = model.apply(tensors, None, Some(Box::new(FromCheckpoint::<M>::on(device))), true);
    if let Some(error) = result.errors.into_iter().next() {
        return Err(misfit(model, error, &found, checkpoint));
    }
    let missing = result.missing.iter().filter(|(tensor, _)| tensor.starts_with(&within));
    let mut names: Vec<String> = missing.map(|(tensor, _)| M::NAMES.name(tensor)).collect();
    if !names.is_empty() {
        names.sort();
        return Err(WeightsError::MissingTensors { path: path.to_owned(), names });
    }
    let in_blocks = result.unused.iter().filter(|tensor| tensor.starts_with(M::NAMES.blocks.1));
    match in_blocks.map(|tensor| M::NAMES.name(tensor)).min() {
        Some(name) => Err(WeightsError::UnknownTensor { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

/// Gives every layer the structure that the checkpoint describes, with its factors, and makes the others dense.
fn structure_layers<M: CheckpointModel>(
    model: &mut M,
    checkpoint: &Checkpoint,
    block: Option<usize>,
    device: &Device,
) -> Result<(), WeightsError> {
    let entries = checkpoint.manifest()?.map(|manifest| manifest.layers).unwrap_or_default();
    let mut described: BTreeMap<&str, (&str, &LayerEntry)> =
        entries.iter().map(|(name, entry)| (M::NAMES.without_prefix(name), (name.as_str(), entry))).collect();
    for (name, layer) in model.layers_mut() {
        let entry = described.remove(name.as_str());
        if block.is_some_and(|block| M::NAMES.block_of(&name) != Some(block)) {
            continue;
        }
        let expected = [layer.d_input(), layer.d_output()];
        match entry {
            Some((full_name, entry)) => {
                let found = [entry.d_input, entry.d_output];
                if found != expected {
                    let path = file_of(checkpoint).to_owned();
                    return Err(WeightsError::LayerSize { path, layer: name, expected, found });
                }
                *layer = checkpoint::layer(checkpoint, full_name, device)?;
            }
            None if !matches!(layer, StructuredLinear::Dense(_)) => {
                let dense = StructuredLinearConfig::new(expected[0], expected[1], Structure::Dense);
                *layer = dense.with_bias(M::has_bias(&name)).init(device);
            }
            None => {}
        }
    }
    match described.into_keys().find(|name| M::NAMES.block_of(name).is_some()) {
        Some(layer) => {
            Err(WeightsError::UnknownLayer { path: file_of(checkpoint).to_owned(), layer: layer.to_string() })
        }
        None => Ok(()),
    }
}

/// The file that errors name.
fn file_of(checkpoint: &Checkpoint) -> &Path {
    match checkpoint.files() {
        [file] => file,
        _ => checkpoint.path(),
    }
}

/// The tensors of a checkpoint; their values are read when they are needed.
fn read_tensors(checkpoint: &Checkpoint) -> Result<Vec<Tensor>, CheckpointError> {
    let mut tensors = Vec::new();
    for path in checkpoint.files() {
        let mut store = SafetensorsStore::from_file(path);
        let found = store
            .get_all_tensors()
            .map_err(|error| CheckpointError::Header { path: path.clone(), reason: error.to_string() })?;
        tensors.extend(found.values().cloned());
    }
    Ok(tensors)
}

/// The error for a tensor that could not be used; `found` are the shapes of the checkpoint's tensors by their module paths.
fn misfit<M: CheckpointModel + 'static>(
    model: &M,
    error: ApplyError,
    found: &BTreeMap<String, Vec<usize>>,
    checkpoint: &Checkpoint,
) -> WeightsError {
    let path = file_of(checkpoint).to_owned();
    let (tensor, reason) = match error {
        ApplyError::ShapeMismatch { path: tensor, expected, found: loaded } => {
            let layout = model.collect(None, Some(Box::new(ToCheckpoint::<M>(PhantomData))), true);
            let stored = layout.into_iter().find(|other| other.name == tensor);
            return WeightsError::TensorShape {
                path,
                name: M::NAMES.name(&tensor),
                expected: stored.map_or(expected.to_vec(), |stored| stored.shape.to_vec()),
                found: found.get(&tensor).cloned().unwrap_or(loaded.to_vec()),
            };
        }
        ApplyError::DTypeMismatch { path: tensor, expected, found } => {
            (tensor, format!("it holds {found:?} instead of {expected:?}"))
        }
        ApplyError::AdapterError { path: tensor, message } | ApplyError::LoadError { path: tensor, message } => {
            (tensor, message)
        }
    };
    WeightsError::Tensor { path, name: M::NAMES.name(&tensor), reason }
}
