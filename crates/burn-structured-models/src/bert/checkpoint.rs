//! Weights from and to checkpoints of Hugging Face's layout.

use super::{Bert, BertConfig, BertError};
use crate::weights::{self, WeightsError, all_weights, block_weights, write_folder};
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, StateDict};
use std::fs;
use std::path::Path;

impl Bert {
    /// The encoder of a Hugging Face model folder, compressed or not: its sizes from `config.json`, its weights and the structures of
    /// its layers from `model.safetensors`, or else from the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not hold a BERT encoder; see [`BertConfig::from_file`] and
    /// [`with_weights`](Self::with_weights).
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, BertError> {
        let folder = folder.as_ref();
        BertConfig::from_file(folder.join("config.json"))?.try_init(device)?.with_weights(folder)
    }

    /// The same model with the weights of a checkpoint with BERT's names, with or without `bert.` in front: a safetensors file, the
    /// index of several, or a folder.
    ///
    /// Layers take the structures that the checkpoint describes; the others become dense. Tensors outside of the layers that the
    /// model does not have, like those of a pooler, are passed over. Weights of another precision are converted to the device's.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is damaged, or the checkpoint lacks a tensor, holds one of another shape or of no float type, or
    /// one of a layer that the model does not have.
    pub fn with_weights(mut self, path: impl AsRef<Path>) -> Result<Self, BertError> {
        let device = self.device();
        weights::load(&mut self, &Checkpoint::open(path)?, None, &device)?;
        Ok(self)
    }

    /// Replaces the weights of one layer, attention and all, by those of a checkpoint, which need not hold the others; see
    /// [`with_weights`](Self::with_weights).
    ///
    /// # Errors
    ///
    /// As [`with_weights`](Self::with_weights). The layer may then hold some of the new weights.
    pub fn load_block(&mut self, block: usize, checkpoint: &Checkpoint) -> Result<(), BertError> {
        let device = self.device();
        Ok(weights::load(self, checkpoint, Some(block), &device)?)
    }

    /// Writes `config.json` and `model.safetensors` to `folder`, which is created if need be: what
    /// [`from_folder`](Self::from_folder) reads. A model of dense layers can also be loaded by Hugging Face's `transformers`.
    ///
    /// Each file is complete or absent. If `config.json` changes, the earlier one is removed before the weights are replaced, so
    /// that a folder never holds the configuration of one model and the weights of another.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, the windows of a layer are frozen, or a dense layer has no bias.
    pub fn save_folder(&self, folder: impl AsRef<Path>) -> Result<(), BertError> {
        let (folder, weights) = (folder.as_ref(), all_weights(self)?);
        fs::create_dir_all(folder).map_err(|error| WeightsError::write(folder, error))?;
        Ok(write_folder(weights, folder, &self.sizes().to_hugging_face())?)
    }

    /// The tensors of one layer under the names that `dense` gives them, the checkpoint of the model before it was compressed:
    /// what [`load_block`](Self::load_block) reads.
    ///
    /// # Errors
    ///
    /// If a linear layer has no place in a checkpoint, as in [`save_folder`](Self::save_folder).
    pub fn block_weights(&self, block: usize, dense: &Checkpoint) -> Result<StateDict<'static>, BertError> {
        Ok(block_weights(self, block, dense)?)
    }

    /// The configuration of a dense model of these sizes.
    fn sizes(&self) -> BertConfig {
        let rows = |embedding: &burn::nn::Embedding| embedding.weight.lazy_shape()[0];
        let [vocab_size, d_model] = self.embeddings.words.weight.lazy_shape().dims();
        let config = BertConfig::new(vocab_size)
            .with_d_model(d_model)
            .with_depth(self.layers.len())
            .with_max_positions(rows(&self.embeddings.positions))
            .with_token_types(rows(&self.embeddings.token_types))
            .with_norm_epsilon(self.norm_epsilon)
            .with_pad_id(self.pad_id);
        match self.layers.first() {
            Some(layer) => config.with_heads(layer.attention.heads()).with_d_hidden(layer.intermediate.d_output()),
            None => config,
        }
    }
}
