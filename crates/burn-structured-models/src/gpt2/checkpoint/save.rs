//! Checkpoints that Hugging Face's `transformers` can load, as far as the layers are dense.

use super::names::HEAD;
use crate::decoder::{DecoderError, LayerRules};
use crate::gpt2::{Gpt2, Gpt2Config};
use crate::text::Tokenizer;
use crate::weights::{WeightsError, all_weights, block_weights, structure_of, write_folder};
use burn_structured_checkpoint::{Checkpoint, StateDict};
use burn_structured_nn::Structure;
use std::fs;
use std::path::Path;

impl Gpt2 {
    /// The configuration of a model of these sizes and structures.
    ///
    /// # Errors
    ///
    /// If the windows of a layer are frozen, which no configuration describes.
    pub fn config(&self) -> Result<Gpt2Config, DecoderError> {
        let mut layers = Vec::new();
        for (name, layer) in self.linears() {
            let structure = structure_of(&name, layer)?;
            if structure != Structure::Dense {
                layers.push((name, structure));
            }
        }
        let d_hidden = self.blocks.first().map_or(0, |block| block.fc1.d_output());
        Ok(Gpt2Config::new(self.vocab_size())
            .with_context(self.context())
            .with_d_model(self.d_model())
            .with_depth(self.blocks.len())
            .with_heads(self.heads())
            .with_d_hidden(if d_hidden == 4 * self.d_model() { 0 } else { d_hidden })
            .with_dropout(self.dropout.prob)
            .with_norm_epsilon(self.norm_epsilon)
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
    /// If a file cannot be written, the windows of a layer are frozen, a dense layer of a block has no bias, or a dense head has one.
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
