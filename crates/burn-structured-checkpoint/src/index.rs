//! The index of a checkpoint in several files: `{"weight_map": {"tensor": "file", …}}`.

use crate::CheckpointError;
use crate::error::printable;
use crate::header::{MAX_HEADER, is_name};
use crate::unique::Unique;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// What an index says.
#[derive(Debug)]
pub(crate) struct Index {
    /// The names of the files by the names of the tensors.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The index in `text`; `path` is for errors.
    pub fn read(text: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Raw {
            weight_map: Unique<String>,
        }
        let reason = |reason: String| CheckpointError::Index { path: path.to_owned(), reason };
        if text.len() as u64 > MAX_HEADER {
            let (path, length) = (path.to_owned(), text.len() as u64);
            return Err(CheckpointError::HeaderTooLarge { path, length, limit: MAX_HEADER });
        }
        let Raw { weight_map: Unique(weight_map) } =
            serde_json::from_slice(text).map_err(|error| reason(printable(error)))?;
        if weight_map.is_empty() {
            return Err(reason("it names no tensor".into()));
        }
        if let Some(name) = weight_map.keys().find(|name| !is_name(name)) {
            return Err(CheckpointError::Name { path: path.to_owned(), name: name.clone() });
        }
        match weight_map.values().find(|file| !is_file_name(file)) {
            Some(file) => Err(CheckpointError::ShardPath { path: path.to_owned(), file: file.clone() }),
            None => Ok(Self { weight_map }),
        }
    }
}

/// Whether `file` is one component of a path, on any system: no folder, no drive, no parent.
fn is_file_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let one = matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file);
    one && !file.contains(['/', '\\', ':']) && !file.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_file_name_refuses_paths() {
        for file in ["model-00001-of-00002.safetensors", "a b", "..a", "weights"] {
            assert!(is_file_name(file), "{file}");
        }
        for file in ["", ".", "..", "/etc/passwd", "../model.safetensors", "a/b", "a/", "./a", "a\\b", "C:a", "a\nb"] {
            assert!(!is_file_name(file), "{file}");
        }
    }
}
