//! What can stop a run. Each message names the file or the setting, and the way out.

use crate::CompressError;
use burn_structured_checkpoint::CheckpointError;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a run cannot start, continue or end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The output is there already.
    #[error("{} exists; choose another output, or pass --force to replace it", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output is something that is not replaced, forced or not.
    #[error("{} is {what}, which is not replaced; choose another output", path.display())]
    NotReplaced {
        /// The output.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// No layer has weights that could become int8.
    #[error("{} has no linear layers with float weights; is it quantized already?", path.display())]
    NothingToQuantize {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The output has no name.
    #[error("{} cannot be an output: it ends with no name; give the path of a folder to create", path.display())]
    NoName {
        /// The output.
        path: PathBuf,
    },
    /// Another process writes the same output.
    #[error("{} is in use by another run{}; wait for it, or choose another output", path.display(), of_process(*process))]
    InUse {
        /// The folder of the unfinished run.
        path: PathBuf,
        /// The other process, if it is known.
        process: Option<u32>,
    },
    /// The unfinished run was started with something else.
    #[error(
        "{} holds an unfinished run with {difference}; continue with what it was started with{}, choose another output, or pass \
         --force to start anew",
        path.display(),
        quoted(command.as_deref())
    )]
    Changed {
        /// The folder of the unfinished run.
        path: PathBuf,
        /// What is different.
        difference: String,
        /// The command that started it, if it is known.
        command: Option<String>,
    },
    /// The description of the unfinished run cannot be read.
    #[error("{} is damaged: {reason}; pass --force to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; {}", path.display(), advice(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The checkpoint is not a dense one.
    #[error("{} is compressed already; pass the dense checkpoint, or write one with to-dense", path.display())]
    Compressed {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The checkpoint is not a compressed one.
    #[error("{} is not compressed: it has no `burn_structured` entry in its metadata; pass what compress wrote", path.display())]
    NotCompressed {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A model and a checkpoint do not belong together.
    #[error("the checkpoint {} has no linear layer {layer} of block {block}, which the model has; pass the checkpoint that the model was loaded from", path.display())]
    Layer {
        /// The checkpoint.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Its block in the model.
        block: usize,
    },
    /// The blocks to keep are none of the model's.
    #[error("{kept:?} are not blocks of a model with {depth}, in ascending order; name some of them")]
    Blocks {
        /// The blocks to keep.
        kept: Vec<usize>,
        /// The model's number of blocks.
        depth: usize,
    },
    /// The configuration of a model cannot be changed.
    #[error(
        "{} cannot be given another number of blocks: {reason}; pass the folder of a BERT, a GPT-2 or a Llama",
        path.display()
    )]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A layer of the plan is in no block of the model.
    #[error("the layer {layer}, which the plan replaces, is in no block of the model; keep it dense")]
    Unreachable {
        /// The layer.
        layer: String,
    },
    /// A block could not be turned into tensors, or read back from them.
    #[error("block {block}: {source}")]
    Block {
        /// The block.
        block: usize,
        /// What the model says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A report cannot be read.
    #[error("{} is no report of a known format: {reason}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The observer ended the run.
    #[error("interrupted with {finished} of {units} parts finished, which {} keeps; run the same command again to continue", path.display())]
    Interrupted {
        /// Finished units.
        finished: usize,
        /// All of them.
        units: usize,
        /// Where they are.
        path: PathBuf,
    },
}

impl PipelineError {
    pub(crate) fn read(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Write { path, source }
    }
}

/// An error in writing a checkpoint, with the way out that a run has.
pub(crate) fn writing(error: CheckpointError) -> CompressError {
    match error {
        CheckpointError::Write { path, source } => PipelineError::Write { path, source }.into(),
        other => other.into(),
    }
}

fn of_process(process: Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

fn quoted(command: Option<&str>) -> String {
    command.map(|command| format!(", `{command}`")).unwrap_or_default()
}

/// The way out of an error in writing.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space and run the same command again; what is finished is kept"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            "choose an output in a folder that can be written"
        }
        _ => "what is finished is kept: run the same command again to continue",
    }
}
