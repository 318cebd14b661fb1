//! Checkpoints that Hugging Face's `transformers` can load, as far as the layers are dense.

use super::names::HEAD;
use crate::decoder::{DecoderError, LayerRules};
use crate::llama::{Llama, LlamaConfig};
use crate::text::Tokenizer;
use crate::weights::{WeightsError, all_weights, block_weights, structure_of, write_folder};
use burn_structured_checkpoint::{Checkpoint, StateDict};
use burn_structured_nn::Structure;
use std::fs;
use std::path::Path;

impl Llama {
    /// The configuration of a model of these sizes and structures.
    ///
    /// # Errors
    ///
    /// If the windows of a layer are frozen, which no configuration describes.
    pub fn config(&self) -> Result<LlamaConfig, DecoderError> {
        let mut layers = Vec::new();
        for (name, layer) in self.linears() {
            let structure = structure_of(&name, layer)?;
            if structure != Structure::Dense {
                layers.push((name, structure));
            }
        }
        let (heads, d_head) = (self.heads(), self.rotary().d_head());
        Ok(LlamaConfig::new(self.vocab_size())
            .with_context(self.context())
            .with_d_model(self.d_model())
            .with_depth(self.blocks.len())
            .with_heads(heads)
            .with_kv_heads(self.kv_heads())
            .with_d_head(if heads * d_head == self.d_model() { 0 } else { d_head })
            .with_d_hidden(self.blocks.first().map_or(1, |block| block.up.d_output()))
            .with_norm_epsilon(self.norm.epsilon)
            .with_rope_theta(self.rotary().theta())
            .with_rope_scaling(self.rotary().scaling().cloned())
            .with_structures(LayerRules::of_layers(layers))
            .with_head(self.head.as_ref().map(|head| structure_of(HEAD, head)).transpose()?))
    }

    /// Writes `config.json` and `model.safetensors` to `folder`, which is created if need be, and the tokenizer's file if it is
    /// given: what [`from_folder`](Self::from_folder) reads. A model of dense layers can also be loaded by Hugging Face's
    /// `transformers`.
    ///
    /// Each file is complete or absent. If `config.json` changes, the earlier one is removed before the weights are replaced, so
    /// that a folder never holds the configuration of one model and the weights of another.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, the windows of a layer are frozen, or a dense layer has a bias.
    pub fn save_folder(&self, folder: impl AsRef<Path>, tokenizer: Option<&Tokenizer>) -> Result<(), DecoderError> {
        let folder = folder.as_ref();
        let config = self.config()?.to_hugging_face(tokenizer.and_then(Tokenizer::end_of_text));
        let weights = all_weights(self)?;
        fs::create_dir_all(folder).map_err(|error| WeightsError::write(folder, error))?;
        if let Some(tokenizer) = tokenizer {
            tokenizer.save(folder)?;
        }
        Ok(write_folder(weights, folder, &config)?)
    }

    /// The tensors of one block under the names that `dense` gives them, the checkpoint of the model before it was compressed:
    /// what [`load_block`](Self::load_block) reads.
    ///
    /// # Errors
    ///
    /// If a layer has no place in a checkpoint, as in [`save_folder`](Self::save_folder).
    pub fn block_weights(&self, block: usize, dense: &Checkpoint) -> Result<StateDict<'static>, DecoderError> {
        Ok(block_weights(self, block, dense)?)
    }
}
