//! A checkpoint in one file or in several.

use crate::CheckpointError;
use crate::header::{Entry, Header, MAX_HEADER};
use crate::index::Index;
use crate::manifest::{MANIFEST_KEY, Manifest};
use crate::source::Source;
use crate::values::{self, FLOATS};
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The file of a model folder that holds all tensors.
const WEIGHTS: &str = "model.safetensors";
/// The file of a model folder that says where the tensors are, if there are several files.
const INDEX: &str = "model.safetensors.index.json";

/// A tensor of a [`Checkpoint`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape; the last axis is contiguous.
    pub shape: Vec<usize>,
    /// The position of its file in [`Checkpoint::files`].
    pub file: usize,
    /// Its bytes in that file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// How many numbers it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes it has.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }
}

/// The tensors of a safetensors file, or of the files that an index lists.
///
/// All headers are checked when the checkpoint is opened: tensors cover their file without gaps or overlaps, have the size of their
/// shape, and names that occur once.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    folder: Option<PathBuf>,
    files: Vec<PathBuf>,
    sources: Vec<Source>,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an `.index.json` file with the shards that it names, or a folder with `model.safetensors` or
    /// else `model.safetensors.index.json`.
    ///
    /// The files are memory-mapped: they must not be changed in place, or shortened, as long as the checkpoint lives. Replacing one
    /// by renaming another, as [`write`](fn@crate::write) and download tools do, is no change. Where that cannot be relied on,
    /// use [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is damaged, or if an index and its shards do not belong together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::load(path.as_ref(), &Source::open)
    }

    /// [`open`](Self::open) with the files read into memory: for files that another process may change in place.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::load(path.as_ref(), &|path| fs::read(path).map(Source::Read))
    }

    /// The tensors of a safetensors file that is in memory.
    ///
    /// # Errors
    ///
    /// If the file is damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self::empty(Path::new("the safetensors data"), None);
        checkpoint.add(PathBuf::from("the safetensors data"), Source::Read(bytes))?;
        Ok(checkpoint)
    }

    fn load(path: &Path, source: &dyn Fn(&Path) -> std::io::Result<Source>) -> Result<Self, CheckpointError> {
        let found = fs::metadata(path).map_err(|error| CheckpointError::read(path, error))?;
        let file = if found.is_dir() {
            let mut files = [WEIGHTS, INDEX].map(|name| path.join(name)).into_iter();
            files.find(|file| file.exists()).ok_or_else(|| CheckpointError::NoWeights { path: path.to_owned() })?
        } else {
            path.to_owned()
        };
        let folder = if found.is_dir() { Some(path) } else { folder_of(path) };
        let mut checkpoint = Self::empty(path, folder.map(Path::to_owned));
        if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            checkpoint.add_shards(&file, source)?;
        } else {
            let bytes = open_file(&file, source)?;
            checkpoint.add(file, bytes)?;
        }
        Ok(checkpoint)
    }

    fn empty(path: &Path, folder: Option<PathBuf>) -> Self {
        Self {
            path: path.to_owned(),
            folder,
            files: Vec::new(),
            sources: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Adds the tensors of all files that an index names.
    fn add_shards(
        &mut self,
        index: &Path,
        source: &dyn Fn(&Path) -> std::io::Result<Source>,
    ) -> Result<(), CheckpointError> {
        check_index(index)?;
        let text = fs::read(index).map_err(|error| CheckpointError::read(index, error))?;
        let Index { weight_map } = Index::read(&text, index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        for name in names {
            let file = index.with_file_name(name);
            let bytes = open_file(&file, source).map_err(|error| match error {
                CheckpointError::Read { source, .. } => {
                    CheckpointError::MissingShard { path: index.to_owned(), file: name.clone(), source }
                }
                other => other,
            })?;
            self.add(file, bytes)?;
        }
        for (name, file) in weight_map {
            let found = self.tensors.get(&name).and_then(|tensor| self.files[tensor.file].file_name());
            if found != Some(file.as_ref()) {
                return Err(CheckpointError::NotInShard { path: index.to_owned(), name, file });
            }
        }
        Ok(())
    }

    /// Adds the tensors of a file.
    fn add(&mut self, path: PathBuf, source: Source) -> Result<(), CheckpointError> {
        let Header { metadata, tensors } = Header::read(&source, &path)?;
        let file = self.files.len();
        for Entry { name, dtype, shape, range } in tensors {
            if let Some(other) = self.tensors.get(&name) {
                let first = self.files[other.file].clone();
                return Err(CheckpointError::DuplicateTensor { name, first, second: path });
            }
            self.tensors.insert(name.clone(), TensorInfo { name, dtype, shape, file, range });
        }
        for (key, value) in metadata {
            if key == MANIFEST_KEY && self.metadata.get(&key).is_some_and(|earlier| *earlier != value) {
                return Err(CheckpointError::Shards { path: self.path.clone() });
            }
            self.metadata.entry(key).or_insert(value);
        }
        self.files.push(path);
        self.sources.push(source);
        Ok(())
    }

    /// The path that the checkpoint was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the checkpoint, whose other files, such as `config.json`, belong to it.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The tensor of a name that has to be there.
    pub(crate) fn expect(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        self.tensor(name)
            .ok_or_else(|| CheckpointError::MissingTensor { path: self.path.clone(), name: name.to_string() })
    }

    /// The tensors whose names begin with `layer` and a point, without that prefix.
    pub fn tensors_of<'a>(&'a self, layer: &str) -> impl Iterator<Item = (&'a str, &'a TensorInfo)> {
        let prefix = format!("{layer}.");
        let length = prefix.len();
        self.tensors
            .range(prefix.clone()..)
            .take_while(move |(name, _)| name.starts_with(&prefix))
            .map(move |(name, tensor)| (&name[length..], tensor))
    }

    /// The bytes of a tensor, little-endian and contiguous.
    ///
    /// # Errors
    ///
    /// If there is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckpointError> {
        let tensor = self.expect(name)?;
        Ok(&self.sources[tensor.file][tensor.range.clone()])
    }

    /// The values of a tensor of type F64, F32, F16 or BF16.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, or its type is another one.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let dtype = self.expect(name)?.dtype;
        values::to_f32(dtype, self.bytes(name)?).ok_or_else(|| self.unsupported(name, dtype, FLOATS))
    }

    pub(crate) fn unsupported(&self, name: &str, dtype: Dtype, supported: &'static str) -> CheckpointError {
        CheckpointError::UnsupportedDtype { path: self.path.clone(), name: name.to_string(), dtype, supported }
    }

    /// The metadata of all files; where shards differ, that of the first one.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What a compressed checkpoint says of itself; `None` for a dense one.
    ///
    /// # Errors
    ///
    /// If the description has an unknown format, is not valid, or names a layer without factors.
    pub fn manifest(&self) -> Result<Option<Manifest>, CheckpointError> {
        self.metadata.get(MANIFEST_KEY).map(|text| Manifest::read(text, self)).transpose()
    }

    /// The SHA-256 of the names, types, shapes and bytes of all tensors, as hexadecimal digits: the same for one file and for shards.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for tensor in self.tensors.values() {
            let sizes = [tensor.name.len(), tensor.shape.len()].into_iter().chain(tensor.shape.iter().copied());
            for size in sizes.chain([tensor.byte_len()]) {
                hash.update((size as u64).to_le_bytes());
            }
            hash.update(tensor.name.as_bytes());
            hash.update(format!("{:>16}", tensor.dtype.to_string()).as_bytes());
            hash.update(&self.sources[tensor.file][tensor.range.clone()]);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The folder of a file; that of a bare name is the current one.
fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// The bytes of a regular file: a pipe would block, and a device has no end.
fn open_file(path: &Path, source: &dyn Fn(&Path) -> std::io::Result<Source>) -> Result<Source, CheckpointError> {
    let found = fs::metadata(path).map_err(|error| CheckpointError::read(path, error))?;
    if !found.is_file() {
        return Err(CheckpointError::NotAFile { path: path.to_owned() });
    }
    source(path).map_err(|error| CheckpointError::read(path, error))
}

/// An error unless the index is a file of a size that an index has.
fn check_index(path: &Path) -> Result<(), CheckpointError> {
    let found = fs::metadata(path).map_err(|error| CheckpointError::read(path, error))?;
    if !found.is_file() {
        return Err(CheckpointError::NotAFile { path: path.to_owned() });
    }
    match found.len() {
        length if length > MAX_HEADER => {
            Err(CheckpointError::HeaderTooLarge { path: path.to_owned(), length, limit: MAX_HEADER })
        }
        _ => Ok(()),
    }
}
