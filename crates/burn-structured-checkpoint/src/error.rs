//! What can be wrong with a checkpoint. Each message names the file, the tensor or the layer, and the way out.

use safetensors::Dtype;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a checkpoint cannot be read, used or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A path is neither a file nor a folder.
    #[error("{} is neither a file nor a folder; give a .safetensors file, an .index.json file or a model folder", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A folder without weights.
    #[error(
        "{} holds neither model.safetensors nor model.safetensors.index.json; give a model folder, or the .safetensors file \
         itself", path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A file that ends before its header does.
    #[error("{} has {length} bytes, but its header ends at byte {needed}; it is cut off or no safetensors file", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// Where the header ends.
        needed: u64,
    },
    /// What a clone without Git LFS has in place of a large file.
    #[error("{} is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A header or an index of a size that no checkpoint has.
    #[error(
        "{}: a header of {length} bytes is above the limit of {limit}; the file is damaged or no safetensors file",
        path.display()
    )]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The length that it gives.
        length: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A header that is not what the format asks for.
    #[error("{} has no valid safetensors header: {reason}; fetch the file again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that is empty or has control characters.
    #[error("{}: {name:?} is no name for a tensor; names have no control characters and are not empty", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// One name in two files.
    #[error("the tensor {name} is both in {} and in {}; a name belongs to one file", first.display(), second.display())]
    DuplicateTensor {
        /// The name.
        name: String,
        /// A file that holds it.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// A tensor whose bytes are more or fewer than its shape says.
    #[error(
        "{}: {name} ({dtype} {shape:?}) has {found} bytes, which is not the size of that shape; fetch the file again",
        path.display()
    )]
    TensorSize {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its number type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that it has.
        found: usize,
    },
    /// A tensor whose place in the file cannot be.
    #[error("{}: {name} is at bytes {start} to {end}, which {problem}; fetch the file again", path.display())]
    Offsets {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its first byte behind the header.
        start: usize,
        /// The byte behind its last one.
        end: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Bytes that belong to no tensor.
    #[error("{} has {count} bytes behind its last tensor; fetch the file again", path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// An index that cannot be read.
    #[error("{} is no valid index of shards: {reason}; fetch the file again", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An index that names a file outside of its folder.
    #[error("{} names {file:?}, which is not the name of a file in the same folder; correct the index", path.display())]
    ShardPath {
        /// The index.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// A file that an index names and that cannot be read.
    #[error("{} names {file}, which cannot be read: {source}; fetch the missing shard", path.display())]
    MissingShard {
        /// The index.
        path: PathBuf,
        /// The file.
        file: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A tensor that is not where the index says.
    #[error("{} says that {name} is in {file}, but it is not; index and shards do not belong together", path.display())]
    NotInShard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The file.
        file: String,
    },
    /// Two shards describe their layers differently.
    #[error("the shards of {} have different `burn_structured` entries; they do not belong together", path.display())]
    Shards {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A tensor that the checkpoint does not have.
    #[error("{} has no tensor {name}; `inspect` lists the names", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Values of a type that cannot be read.
    #[error("{}: {name} holds {dtype}, but only {supported} can be read here; convert the checkpoint", path.display())]
    UnsupportedDtype {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its number type.
        dtype: Dtype,
        /// The types that can be read.
        supported: &'static str,
    },
    /// A tensor of another shape than the one that is needed.
    #[error("{}: {name} has shape {found:?} instead of {expected}", path.display())]
    TensorShape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is needed, in words or as a shape.
        expected: String,
        /// The shape.
        found: Vec<usize>,
    },
    /// A description of compressed layers that cannot be read.
    #[error("{}: the metadata entry `burn_structured` is not valid: {reason}; compress the model again", path.display())]
    Manifest {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A description in a format of a later version.
    #[error("{} has format {format}, but this version reads format {newest}; update burn-structured", path.display())]
    Format {
        /// The checkpoint.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest format that is known.
        newest: u64,
    },
    /// A layer that is not as the checkpoint describes it.
    #[error("{}: the layer {layer} {reason}", path.display())]
    Layer {
        /// The checkpoint.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// What is wrong with it and what would work.
        reason: String,
    },
    /// A layer that no checkpoint can describe.
    #[error("the layer cannot be saved: {reason}")]
    Unsaveable {
        /// Why, and what would work.
        reason: &'static str,
    },
    /// A tensor that cannot be written.
    #[error("the tensor {name:?} cannot be written: {reason}")]
    TensorData {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}; {}", path.display(), advice(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl CheckpointError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

/// Text from a file, for a message: control characters would change what a terminal shows.
pub(crate) fn printable(text: impl ToString) -> String {
    text.to_string().replace(char::is_control, "\u{fffd}")
}

/// The way out of an error in writing; an earlier file is still there.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space and run again; nothing was replaced",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that can be written; nothing was replaced"
        }
        ErrorKind::NotFound => "create the folder first",
        _ => "nothing was replaced",
    }
}
