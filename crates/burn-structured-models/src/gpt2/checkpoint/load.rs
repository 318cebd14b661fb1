//! Weights from a Hugging Face checkpoint.

use super::layout::{FromCheckpoint, ToCheckpoint};
use super::names::{PREFIX, checkpoint_name, full_name, is_buffer, module_path};
use super::{CONFIG, WEIGHTS};
use crate::gpt2::{Gpt2, Gpt2Config, Gpt2Error};
use crate::misfit::Misfit;
use burn::tensor::Device;
use burn_store::burn_pack::Tensor;
use burn_store::{ApplyError, ModuleSnapshot, ModuleStore, SafetensorsStore, SafetensorsStoreError};
use burn_structured_nn::StructuredLinear;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which file holds a tensor, where a checkpoint has several.
const INDEX: &str = "model.safetensors.index.json";

/// The part of the index that matters here.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Gpt2 {
    /// The model of a Hugging Face folder, or of one that [`save_folder`](Self::save_folder) wrote: sizes and structures from
    /// `config.json`, weights from `model.safetensors`, or else from the files that `model.safetensors.index.json` lists.
    ///
    /// The dropout is that of `config.json`, 0.1 for OpenAI's models; it acts only on devices with autodiff.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not hold a GPT-2; see [`Gpt2Config::from_file`] and
    /// [`with_weights`](Self::with_weights).
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Gpt2Error> {
        let config = folder.as_ref().join(CONFIG);
        let model = Gpt2Config::from_file(&config)?.try_init(device).map_err(|error| error.in_file(&config))?;
        let (weights, index) = (folder.as_ref().join(WEIGHTS), folder.as_ref().join(INDEX));
        if weights.exists() || !index.exists() {
            return model.with_weights(weights);
        }
        let tensors = read_shards(&index)?;
        model.with_tensors(tensors, &index)
    }

    /// The same model with the weights of a safetensors file with GPT-2's names, with or without `transformer.` in front.
    ///
    /// Weights of another precision are converted to the device's. The causal masks of older files are passed over, and so are
    /// tensors beside the blocks that the model does not have, such as another head. In a layer that is not dense, the factors
    /// take the weight's place under the same name: `h.0.mlp.c_fc.u`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, lacks a tensor, holds one of another shape or of no float type, or one of a block that the
    /// model does not have.
    pub fn with_weights(self, path: impl AsRef<Path>) -> Result<Self, Gpt2Error> {
        let path = path.as_ref();
        self.with_tensors(read_tensors(path)?, path)
    }

    /// The same model with `tensors` of the file at `path`.
    fn with_tensors(mut self, tensors: Vec<Tensor>, path: &Path) -> Result<Self, Gpt2Error> {
        let unknown = |name: &str| Gpt2Error::UnknownTensor { path: path.to_owned(), name: name.into() };
        let mut known = Vec::new();
        for mut tensor in tensors {
            let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
            match module_path(name) {
                Some(path) => {
                    tensor.name = path;
                    known.push(tensor);
                }
                None if name.starts_with("h.") && !is_buffer(name) => return Err(unknown(name)),
                None => {}
            }
        }
        let shapes = known.iter().map(|tensor| (tensor.name.clone(), tensor.shape.to_vec())).collect();
        let inputs = self.input_features();
        let result = self.apply(known, None, Some(Box::new(FromCheckpoint::on(&self.device()))), true);
        if let Some(error) = result.errors.into_iter().next() {
            return Err(self.misfit(error, &shapes, path));
        }
        if !result.missing.is_empty() {
            let mut names: Vec<String> = result.missing.iter().map(|(path, _)| checkpoint_name(path)).collect();
            names.sort();
            return Err(Gpt2Error::MissingTensors { path: path.to_owned(), names });
        }
        let in_blocks = result.unused.iter().filter(|tensor| tensor.starts_with("blocks."));
        if let Some(name) = in_blocks.map(|tensor| checkpoint_name(tensor)).min() {
            return Err(unknown(&name));
        }
        self.check_hashes(&inputs, path)?;
        Ok(self)
    }

    /// The error for a tensor that could not be used; `found` are the shapes of the file's tensors by their module paths.
    fn misfit(&self, error: ApplyError, found: &BTreeMap<String, Vec<usize>>, path: &Path) -> Gpt2Error {
        let path = path.to_owned();
        match error.into() {
            Misfit::Shape { tensor, expected, found: loaded } => {
                let name = full_name(&tensor);
                let layout = self.collect(None, Some(Box::new(ToCheckpoint)), true);
                let expected =
                    layout.into_iter().find(|other| other.name == name).map_or(expected, |other| other.shape.to_vec());
                Gpt2Error::TensorShape {
                    path,
                    name: checkpoint_name(&tensor),
                    expected,
                    found: found.get(&tensor).cloned().unwrap_or(loaded),
                }
            }
            Misfit::Other { tensor, reason } => Gpt2Error::Tensor { path, name: checkpoint_name(&tensor), reason },
        }
    }

    /// The input features of every linear layer.
    fn input_features(&self) -> Vec<usize> {
        self.linears_and_head().map(|(_, layer)| layer.d_input()).collect()
    }

    /// Whether every SS1 layer still has the `inputs` that it had before its hash was loaded: Burn checks shapes only.
    fn check_hashes(&self, inputs: &[usize], path: &Path) -> Result<(), Gpt2Error> {
        let fits = |layer: &StructuredLinear, d_input| layer.structure().is_some() && layer.d_input() == d_input;
        match self.linears_and_head().zip(inputs).find(|((_, layer), d_input)| !fits(layer, **d_input)) {
            Some(((name, _), _)) => Err(Gpt2Error::Tensor {
                path: path.to_owned(),
                name: format!("{name}.hash"),
                reason: "it is not that of a layer with these weights".into(),
            }),
            None => Ok(()),
        }
    }
}

/// The tensors of a safetensors file; their values are read when they are needed.
fn read_tensors(path: &Path) -> Result<Vec<Tensor>, Gpt2Error> {
    let mut store = SafetensorsStore::from_file(path);
    let tensors = store.get_all_tensors().map_err(|error| match error {
        SafetensorsStoreError::Io(source) => Gpt2Error::read(path, source),
        other => Gpt2Error::Checkpoint { path: path.to_owned(), reason: other.to_string() },
    })?;
    Ok(tensors.values().cloned().collect())
}

/// The tensors of all files that an index lists.
fn read_shards(index: &Path) -> Result<Vec<Tensor>, Gpt2Error> {
    let text = std::fs::read_to_string(index).map_err(|source| Gpt2Error::read(index, source))?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|source| Gpt2Error::Json { path: index.to_owned(), source })?;
    let mut tensors = Vec::new();
    for file in weight_map.into_values().collect::<BTreeSet<_>>() {
        if Path::new(&file).file_name() != Some(file.as_ref()) {
            return Err(Gpt2Error::ShardPath { path: index.to_owned(), file });
        }
        tensors.extend(read_tensors(&index.with_file_name(file))?);
    }
    Ok(tensors)
}
