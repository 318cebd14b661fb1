//! The folder of an unfinished run: what is finished survives whatever happens to the process.
//!
//! ```text
//! out.partial/
//!   lock                   held by the run
//!   manifest.json          what the run was started with, and the finished units with the hashes of their shards
//!   block-000.safetensors  a finished unit
//!   …
//!   out/                   the output while it is put together; renamed to its place when it is complete
//! ```
//!
//! A unit is finished when its shard is complete on the disk and then the manifest names it. Both are written beside their place and
//! renamed, so a process that is killed at any moment leaves a folder in which the next one continues.

mod folder;
mod identity;
mod lock;
mod manifest;

pub(crate) use folder::sha256_of;
pub(crate) use identity::{Identity, hex};
pub(crate) use manifest::Unit;

use super::error::writing;
use super::{Event, Finished, Observer, Output, PipelineError};
use crate::CompressError;
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, TensorData, files};
use lock::Lock;
use manifest::Manifest;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The output while it is put together.
const ASSEMBLY: &str = "out";
/// An earlier output, from when it is moved away until the new one is in its place.
const REPLACED: &str = "replaced";

/// What [`Store::open`] finds.
#[allow(clippy::large_enum_variant, reason = "one value for a run, unpacked at once")]
pub(crate) enum Opened {
    /// A run to do, or the rest of it.
    Run(Store),
    /// The output of the same run, complete: an earlier process was killed while it cleaned up.
    Finished(Box<Finished>),
}

/// A locked folder of an unfinished run.
pub(crate) struct Store {
    output: Output,
    folder: PathBuf,
    manifest: Manifest,
    /// Names of all units of the run, in order.
    units: Vec<String>,
    _lock: Lock,
}

impl Store {
    /// Starts or continues the run `identity` of these units. `sources` are read by the run and must stay.
    ///
    /// # Errors
    ///
    /// If the output exists or another run is at it, an unfinished run was started with something else, or the folder cannot be read
    /// or written.
    pub fn open(
        output: &Output,
        identity: Identity,
        units: Vec<String>,
        sources: &[PathBuf],
        observer: &mut Observer<'_>,
    ) -> Result<Opened, PipelineError> {
        let folder = output.partial()?;
        folder::check_output(&output.path, sources)?;
        folder::check_partial(&folder)?;
        // Refused before anything is created.
        if output.path.exists() && !output.force && !folder.exists() {
            return Err(PipelineError::Exists { path: output.path.clone() });
        }
        let lock = Lock::acquire(&folder)?;
        let manifest = match Manifest::load(&folder) {
            Ok(Some(found)) => match identity.difference(&found.identity) {
                None => Some(found),
                Some(_) if output.force => None,
                Some(difference) => {
                    return Err(PipelineError::Changed { path: folder, difference, command: found.command });
                }
            },
            Ok(None) => None,
            Err(PipelineError::Damaged { .. }) if output.force => None,
            Err(error) => return Err(error),
        };
        if output.path.exists()
            && manifest.is_some()
            && let Some(finished) = Finished::load(&output.path).ok().filter(|done| done.report.run == identity.id())
        {
            folder::remove(&folder)?;
            return Ok(Opened::Finished(Box::new(finished)));
        }
        if output.path.exists() && !output.force {
            if manifest.is_none() {
                // Nothing is in it but the lock.
                let _ = folder::remove(&folder);
            }
            return Err(PipelineError::Exists { path: output.path.clone() });
        }
        let fresh = manifest.is_none();
        let mut store = Self {
            output: output.clone(),
            manifest: manifest.unwrap_or_else(|| Manifest::new(identity, output.command.clone())),
            folder,
            units,
            _lock: lock,
        };
        if fresh {
            folder::clear(&store.folder, &[lock::FILE])?;
            store.manifest.save(&store.folder)?;
        } else {
            files::remove_scratch(&store.folder).map_err(PipelineError::write(&store.folder))?;
            store.drop_damaged(observer)?;
        }
        if !store.manifest.units.is_empty() {
            let (finished, units) = (store.manifest.units.len(), store.units.len());
            if observer(&Event::Resumed { finished, units }).is_break() {
                return Err(store.interrupted());
            }
        }
        Ok(Opened::Run(store))
    }

    /// Keeps the units in front of the first one whose shard is not what it was: those behind it were computed from it.
    fn drop_damaged(&mut self, observer: &mut Observer<'_>) -> Result<(), PipelineError> {
        let good = |(at, unit): (usize, &Unit)| {
            self.units.get(at) == Some(&unit.name)
                && sha256_of(&self.shard_path(at)).is_ok_and(|hash| hash == unit.sha256)
        };
        let Some(damaged) = self.manifest.units.iter().enumerate().position(|unit| !good(unit)) else { return Ok(()) };
        let flow = observer(&Event::Damaged { shard: &self.shard_path(damaged) });
        self.manifest.units.truncate(damaged);
        self.manifest.save(&self.folder)?;
        if flow.is_break() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// The names of all units.
    pub fn units(&self) -> &[String] {
        &self.units
    }

    /// How many units are finished.
    pub fn finished(&self) -> usize {
        self.manifest.units.len()
    }

    /// The time that the finished units took.
    pub fn seconds(&self) -> f64 {
        self.manifest.units.iter().map(|unit| unit.seconds).sum()
    }

    /// What tells this run from others.
    pub fn identity(&self) -> &Identity {
        &self.manifest.identity
    }

    /// The output.
    pub fn output(&self) -> &Output {
        &self.output
    }

    fn shard_path(&self, unit: usize) -> PathBuf {
        let name = self.units.get(unit).map_or("", String::as_str);
        self.folder.join(format!("{name}.safetensors"))
    }

    /// The shard of a finished unit.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn shard(&self, unit: usize) -> Result<Checkpoint, CompressError> {
        Ok(Checkpoint::open(self.shard_path(unit))?)
    }

    /// Finishes the next unit: its shard, then the manifest.
    ///
    /// # Errors
    ///
    /// If a file cannot be written; the unit is then not finished, and all others are.
    pub fn finish(
        &mut self,
        tensors: &[TensorData<'_>],
        metadata: &BTreeMap<String, String>,
        seconds: f64,
    ) -> Result<Checkpoint, CompressError> {
        let unit = self.finished();
        let path = self.shard_path(unit);
        checkpoint::write(&path, tensors, metadata).map_err(writing)?;
        let sha256 = sha256_of(&path).map_err(PipelineError::read(&path))?;
        let finished = Unit { name: self.units[unit].clone(), sha256, seconds };
        let mut manifest = self.manifest.clone();
        manifest.units.push(finished);
        manifest.save(&self.folder)?;
        self.manifest = manifest;
        self.shard(unit)
    }

    /// A number that was decided earlier in the run.
    pub fn decision(&self, name: &str) -> Option<usize> {
        self.manifest.decisions.get(name).copied()
    }

    /// Decides a number for the rest of the run.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub fn decide(&mut self, name: &str, value: usize) -> Result<(), PipelineError> {
        let mut manifest = self.manifest.clone();
        manifest.decisions.insert(name.to_string(), value);
        manifest.save(&self.folder)?;
        self.manifest = manifest;
        Ok(())
    }

    /// All numbers that were decided.
    pub fn decisions(&self) -> &BTreeMap<String, usize> {
        &self.manifest.decisions
    }

    /// An empty folder for the output.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn assembly(&self) -> Result<PathBuf, PipelineError> {
        let path = self.folder.join(ASSEMBLY);
        folder::remove(&path)?;
        fs::create_dir(&path).map_err(PipelineError::write(&path))?;
        Ok(path)
    }

    /// Puts the [assembled](Self::assembly) output in its place, and removes the folder of the run.
    ///
    /// # Errors
    ///
    /// If that is not possible. The output is then absent, or the earlier one, and the run can be continued.
    pub fn complete(self) -> Result<PathBuf, PipelineError> {
        let Self { output, folder, .. } = &self;
        let assembled = folder.join(ASSEMBLY);
        let parent = folder.parent().unwrap_or(Path::new(""));
        let written = |result: std::io::Result<()>| result.map_err(PipelineError::write(&output.path));
        files::sync_folder(&assembled).or_else(folder::unless_unsupported).map_err(PipelineError::write(&assembled))?;
        if output.path.exists() {
            if !output.force {
                return Err(PipelineError::Exists { path: output.path.clone() });
            }
            let replaced = folder.join(REPLACED);
            folder::remove(&replaced)?;
            written(fs::rename(&output.path, &replaced))?;
        }
        written(fs::rename(&assembled, &output.path))?;
        written(files::sync_folder(parent).or_else(folder::unless_unsupported))?;
        // The output is there; what is left of the run is removed now, or by the next run.
        let _ = folder::remove(folder);
        Ok(output.path.clone())
    }

    /// The error for a run that its observer ended.
    pub fn interrupted(&self) -> PipelineError {
        PipelineError::Interrupted { finished: self.finished(), units: self.units.len(), path: self.folder.clone() }
    }

    /// An error of a run: an interruption says how to continue.
    pub fn explain(&self, error: CompressError) -> CompressError {
        match error {
            CompressError::Interrupted => self.interrupted().into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
