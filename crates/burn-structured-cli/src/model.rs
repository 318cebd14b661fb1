//! Models that can run, and the checkpoints that they come from.

use crate::failure::Failure;
use crate::text;
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, Family, family};
use burn_structured_compress::pipeline::Output;
use burn_structured_models::bert::SentenceEncoder;
use burn_structured_models::decoder::Decoder;
use burn_structured_models::gpt2::Gpt2;
use burn_structured_models::llama::Llama;
use burn_structured_models::text::Tokenizer;
use std::path::{Path, PathBuf};

/// A model of the zoo with its tokenizer, or any other checkpoint, whose layers can only be compressed one by one.
pub enum Model {
    /// A BERT sentence encoder.
    Encoder(Box<SentenceEncoder>),
    /// A language model; its tokenizer is [`tokenizer`].
    Language(Language),
    /// A checkpoint without code that runs it.
    Other,
}

/// A language model of the zoo.
pub enum Language {
    /// A GPT-2.
    Gpt2(Box<Gpt2>),
    /// A Llama.
    Llama(Box<Llama>),
}

/// `$body` with `$model` bound to the model in a [`Language`], of whichever type it is.
macro_rules! with_decoder {
    ($language:expr, $model:ident => $body:expr) => {
        match $language {
            $crate::model::Language::Gpt2($model) => $body,
            $crate::model::Language::Llama($model) => $body,
        }
    };
}
pub(crate) use with_decoder;

/// Opens a checkpoint.
///
/// # Errors
///
/// If it cannot be read, or is [unfinished](check_finished).
pub fn open(path: &Path) -> Result<Checkpoint, Failure> {
    check_finished(path)?;
    Ok(Checkpoint::open(path)?)
}

/// An error if there is only the unfinished run of an output, which is a folder of another name.
///
/// # Errors
///
/// See above.
pub fn check_finished(path: &Path) -> Result<(), Failure> {
    match Output::new(path).partial().ok().filter(|partial| partial.is_dir() && !path.exists()) {
        Some(partial) => Err(Failure::new(format!(
            "{} is not there yet: {} holds an unfinished run; run the command that started it again to finish it",
            path.display(),
            partial.display()
        ))),
        None => Ok(()),
    }
}

impl Model {
    /// The model of a checkpoint.
    ///
    /// # Errors
    ///
    /// If a file of the folder is missing or not valid.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, Failure> {
        Ok(match family(checkpoint) {
            Family::Bert => Self::Encoder(Box::new(SentenceEncoder::from_folder(folder(checkpoint)?, device)?)),
            Family::Gpt2 => Self::Language(Language::Gpt2(Box::new(Gpt2::from_folder(folder(checkpoint)?, device)?))),
            Family::Llama => {
                Self::Language(Language::Llama(Box::new(Llama::from_folder(folder(checkpoint)?, device)?)))
            }
            _ => Self::Other,
        })
    }
}

/// The tokenizer of this name for a language model, or else the one of its folder.
///
/// # Errors
///
/// If there is none, or it has more tokens than the model.
pub fn tokenizer(checkpoint: &Checkpoint, model: &impl Decoder, name: Option<&str>) -> Result<Tokenizer, Failure> {
    let tokenizer = match name {
        Some(name) => text::tokenizer(name)?,
        None => Tokenizer::from_folder(folder(checkpoint)?)?,
    };
    let (known, tokens) = (model.vocab_size(), tokenizer.vocab_size());
    if tokens > known {
        let (name, path) = (tokenizer.name(), checkpoint.path().display());
        let message = format!("the tokenizer {name} has {tokens} tokens, but the model {path} only {known}");
        return Err(Failure::new(message + "; give the model's own with --tokenizer"));
    }
    Ok(tokenizer)
}

/// The folder with the configuration and the tokenizer of a checkpoint.
///
/// # Errors
///
/// If it is not known.
pub fn folder(checkpoint: &Checkpoint) -> Result<PathBuf, Failure> {
    let unknown = || Failure::new(format!("{} is in no folder; give the model's folder", checkpoint.path().display()));
    checkpoint.folder().map(Path::to_owned).ok_or_else(unknown)
}

/// The error for a command that cannot run this checkpoint.
pub fn cannot_run(checkpoint: &Checkpoint, command: &str) -> Failure {
    Failure::new(format!(
        "{} is no BERT encoder, GPT-2 or Llama by its tensors' names, and `{command}` runs only these; `plan` and \
         `compress` without --text take any checkpoint",
        checkpoint.path().display()
    ))
}
