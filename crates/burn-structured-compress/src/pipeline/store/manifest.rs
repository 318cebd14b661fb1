//! The description of an unfinished run: what it was started with, and what is finished.

use super::Identity;
use crate::pipeline::PipelineError;
use burn_structured_checkpoint::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(super) const FILE: &str = "manifest.json";
const FORMAT: u64 = 1;
/// The most bytes that are read: thousands of units.
const MAX_BYTES: u64 = 1 << 26;

/// `manifest.json` of an unfinished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u64,
    /// What the run was started with.
    pub identity: Identity,
    /// The command that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Numbers that were found once and hold for the rest of the run, such as the steps that a time budget comes to.
    pub decisions: BTreeMap<String, usize>,
    /// Finished units, in order.
    pub units: Vec<Unit>,
}

/// A finished unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unit {
    /// Its name; the shard is `<name>.safetensors`.
    pub name: String,
    /// SHA-256 of the shard.
    pub sha256: String,
    /// The time it took.
    pub seconds: f64,
}

impl Manifest {
    pub fn new(identity: Identity, command: Option<String>) -> Self {
        Self { format: FORMAT, identity, command, decisions: BTreeMap::new(), units: Vec::new() }
    }

    /// The manifest in a folder; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no manifest of this format.
    pub fn load(folder: &Path) -> Result<Option<Self>, PipelineError> {
        let path = folder.join(FILE);
        let damaged = |reason: String| PipelineError::Damaged { path: path.clone(), reason };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PipelineError::read(&path)(error)),
            Ok(found) if !found.is_file() || found.len() > MAX_BYTES => {
                return Err(damaged("it is no file of the size that a manifest has".into()));
            }
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(PipelineError::read(&path))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {}, but this version knows {FORMAT}", manifest.format)));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest in a folder.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the earlier one is then unchanged.
    pub fn save(&self, folder: &Path) -> Result<(), PipelineError> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| files::replace(&path, &text)).map_err(PipelineError::write(&path))
    }
}
