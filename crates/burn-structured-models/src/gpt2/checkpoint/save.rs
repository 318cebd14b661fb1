//! Checkpoints that Hugging Face's `transformers` can load, as far as the layers are dense.

use super::layout::ToCheckpoint;
use super::{CONFIG, WEIGHTS};
use crate::files;
use crate::gpt2::{Gpt2, Gpt2Config, Gpt2Error, LayerRules};
use crate::text::Tokenizer;
use burn_store::burn_pack::AtomicFile;
use burn_store::{ModuleSnapshot, SafetensorsStore};
use burn_structured_nn::{Structure, StructuredLinear};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

impl Gpt2 {
    /// The configuration of a model of these sizes and structures.
    ///
    /// # Errors
    ///
    /// If the windows of a layer are frozen, which no configuration describes.
    pub fn config(&self) -> Result<Gpt2Config, Gpt2Error> {
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
            .with_head(self.head.as_ref().map(|head| structure_of("lm_head", head)).transpose()?))
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
    /// If a file cannot be written, the windows of a layer are frozen, or a layer of a block has no bias.
    pub fn save_folder(&self, folder: impl AsRef<Path>, tokenizer: Option<&Tokenizer>) -> Result<(), Gpt2Error> {
        let folder = folder.as_ref();
        let config = self.config()?.to_hugging_face(tokenizer.and_then(Tokenizer::end_of_text));
        self.check_biases()?;
        fs::create_dir_all(folder).map_err(|error| Gpt2Error::write(folder, error))?;
        if let Some(tokenizer) = tokenizer {
            tokenizer.save(folder)?;
        }
        let (config_path, weights_path) = (folder.join(CONFIG), folder.join(WEIGHTS));
        let config = format!("{config:#}\n");
        let weights = self.write_weights(&weights_path)?;
        remove_unless(&config_path, &config)?;
        weights.commit().map_err(|error| Gpt2Error::write(&weights_path, error))?;
        files::replace(&config_path, config.as_bytes()).map_err(|error| Gpt2Error::write(&config_path, error))
    }

    /// Writes the weights beside `path`, to be moved there.
    fn write_weights(&self, path: &Path) -> Result<AtomicFile, Gpt2Error> {
        let error = |reason: String| Gpt2Error::write(path, reason);
        let (scratch, file) = AtomicFile::create(path).map_err(|reason| error(reason.to_string()))?;
        // The store opens the file itself.
        drop(file);
        let mut store = SafetensorsStore::from_file(scratch.path())
            .overwrite(true)
            .skip_enum_variants(true)
            .with_to_adapter(ToCheckpoint)
            // Burn's own is written in a random order.
            .clear_metadata()
            // What `transformers` wants to see before it takes the tensors for PyTorch's.
            .metadata("format", "pt");
        self.save_into(&mut store).map_err(|reason| error(reason.to_string()))?;
        Ok(scratch)
    }

    /// Checkpoints have a bias in every layer of the blocks, and none in the head.
    fn check_biases(&self) -> Result<(), Gpt2Error> {
        let error = |layer, problem| Err(Gpt2Error::Unsaveable { layer, problem });
        if let Some((name, _)) = self.linears().find(|(_, layer)| layer.bias().is_none()) {
            return error(name, "it has no bias, which it has in every GPT-2; give it one of zeros");
        }
        if self.head.as_ref().is_some_and(|head| head.bias().is_some()) {
            return error("lm_head".into(), "it has a bias, which it has in no GPT-2; use a head without");
        }
        Ok(())
    }

    /// The linear layers of the blocks and the head, with their names.
    pub(super) fn linears_and_head(&self) -> impl Iterator<Item = (String, &StructuredLinear)> {
        self.linears().chain(self.head.iter().map(|head| ("lm_head".to_string(), head)))
    }
}

fn structure_of(name: &str, layer: &StructuredLinear) -> Result<Structure, Gpt2Error> {
    layer.structure().ok_or_else(|| Gpt2Error::Unsaveable {
        layer: name.to_string(),
        problem: match layer {
            StructuredLinear::Windowed(_) => "its windows are frozen; save the model before they are",
            _ => "the hash that was loaded does not fit its weights; load the record that belongs to them",
        },
    })
}

/// Removes the file at `path` unless it holds `text`.
fn remove_unless(path: &Path, text: &str) -> Result<(), Gpt2Error> {
    if fs::read_to_string(path).is_ok_and(|earlier| earlier == text) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Gpt2Error::write(path, error)),
        _ => Ok(()),
    }
}
