//! Weights from a Hugging Face checkpoint.

use super::names::{checkpoint_name, remapping};
use super::{Bert, BertConfig, BertError};
use crate::misfit::Misfit;
use burn::tensor::{DType, Device};
use burn_store::{
    ApplyResult, BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, ModuleStore,
    PyTorchToBurnAdapter, SafetensorsStore, SafetensorsStoreError,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Shapes of tensors by their module path, in the checkpoint's layout.
type Shapes = BTreeMap<String, Vec<usize>>;

impl Bert {
    /// A dense encoder from a Hugging Face model folder: its sizes from `config.json`, its weights from `model.safetensors`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not hold a BERT encoder; see [`BertConfig::from_file`] and
    /// [`with_weights`](Self::with_weights).
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, BertError> {
        let folder = folder.as_ref();
        let config = BertConfig::from_file(folder.join("config.json"))?;
        config.try_init(device)?.with_weights(folder.join("model.safetensors"))
    }

    /// The same model with the weights of a safetensors file with BERT's names, with or without `bert.` in front.
    ///
    /// Tensors that the model does not have, like those of a pooler, are passed over. Weights of another precision are
    /// converted to the device's. In a layer that is not dense, the factors take the weight's place under the same name:
    /// `encoder.layer.0.intermediate.dense.u`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, lacks a tensor, or holds one of another shape or of no float type.
    pub fn with_weights(mut self, path: impl AsRef<Path>) -> Result<Self, BertError> {
        let path = path.as_ref();
        let float: DType = self.device().settings().float_dtype.into();
        let store = SafetensorsStore::from_file(path)
            .with_from_adapter(PyTorchToBurnAdapter.chain(FloatCastAdapter::to(float)))
            .skip_enum_variants(true)
            // What is missing or does not fit is named here, with the file's names and layout.
            .allow_partial(true)
            .validate(false);
        let mut store = remapping().into_iter().fold(store, |store, (from, to)| store.with_key_remapping(from, to));
        let tensors = store.get_all_tensors().map_err(|error| checkpoint_error(path, error))?;
        let found: Shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.to_vec())).collect();
        let result = self.load_from(&mut store).map_err(|error| checkpoint_error(path, error))?;
        if result.missing.is_empty() && result.errors.is_empty() {
            return Ok(self);
        }
        let layout = self.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
        let expected = layout.into_iter().map(|tensor| (tensor.name.clone(), tensor.shape.to_vec())).collect();
        Err(misfit(path.to_owned(), result, found, expected))
    }
}

fn checkpoint_error(path: &Path, error: SafetensorsStoreError) -> BertError {
    match error {
        SafetensorsStoreError::Io(source) => BertError::read(path, source),
        other => BertError::Checkpoint { path: path.to_owned(), reason: other.to_string() },
    }
}

/// The error for the first tensor that could not be used, or for all that are missing.
fn misfit(path: PathBuf, result: ApplyResult, found: Shapes, expected: Shapes) -> BertError {
    let Some(error) = result.errors.into_iter().next() else {
        let names = result.missing.iter().map(|(path, _)| checkpoint_name(&checkpoint_parameter(path))).collect();
        return BertError::MissingTensors { path, names };
    };
    match error.into() {
        Misfit::Shape { tensor, expected: model, found: file } => {
            let tensor = checkpoint_parameter(&tensor);
            BertError::TensorShape {
                path,
                name: checkpoint_name(&tensor),
                expected: expected.get(&tensor).cloned().unwrap_or(model),
                found: found.get(&tensor).cloned().unwrap_or(file),
            }
        }
        Misfit::Other { tensor, reason } => {
            BertError::Tensor { path, name: checkpoint_name(&checkpoint_parameter(&tensor)), reason }
        }
    }
}

/// A module path with PyTorch's names for the parameters of a norm.
fn checkpoint_parameter(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => path.to_string(),
    }
}
