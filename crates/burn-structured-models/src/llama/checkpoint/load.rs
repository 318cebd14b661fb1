//! Weights from a checkpoint.

use super::CONFIG;
use crate::decoder::DecoderError;
use crate::llama::{Llama, LlamaConfig};
use crate::weights;
use burn::tensor::Device;
use burn_structured_checkpoint::Checkpoint;
use std::path::Path;

impl Llama {
    /// The model of a Hugging Face folder, compressed or not: sizes from `config.json`, weights and the structures of its layers
    /// from `model.safetensors`, or else from the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not hold a Llama; see [`LlamaConfig::from_file`] and [`with_weights`](Self::with_weights).
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, DecoderError> {
        let config = folder.as_ref().join(CONFIG);
        let model = LlamaConfig::from_file(&config)?.try_init(device).map_err(|error| error.in_file(&config))?;
        model.with_weights(folder)
    }

    /// The same model with the weights of a checkpoint with Llama's names, with or without `model.` in front: a safetensors file, the
    /// index of several, or a folder.
    ///
    /// Layers take the structures that the checkpoint describes; the others become dense. Weights of another precision are
    /// converted to the device's. The rotary frequencies of older files are passed over, and so are tensors beside the blocks that
    /// the model does not have, such as a head beside a tied embedding.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is damaged, or the checkpoint lacks a tensor, holds one of another shape or of no float type, or
    /// one of a block that the model does not have.
    pub fn with_weights(mut self, path: impl AsRef<Path>) -> Result<Self, DecoderError> {
        let device = self.device();
        weights::load(&mut self, &Checkpoint::open(path)?, None, &device)?;
        Ok(self)
    }

    /// Replaces the weights of one block by those of a checkpoint, which need not hold the others; see
    /// [`with_weights`](Self::with_weights).
    ///
    /// # Errors
    ///
    /// As [`with_weights`](Self::with_weights). The block may then hold some of the new weights.
    pub fn load_block(&mut self, block: usize, checkpoint: &Checkpoint) -> Result<(), DecoderError> {
        let device = self.device();
        Ok(weights::load(self, checkpoint, Some(block), &device)?)
    }
}
