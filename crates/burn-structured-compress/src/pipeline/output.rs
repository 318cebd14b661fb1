//! Where a run writes.

use super::PipelineError;
use crate::report::{Report, RunInfo};
use std::path::{Path, PathBuf};

/// The folder that a run makes, and what it may replace.
///
/// The folder is complete or absent. Until it is complete, what is finished is in a folder beside it, `<output>.partial`, where the
/// next run with the same model, plan, data and settings continues.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// The folder to make.
    pub path: PathBuf,
    /// Whether an earlier output is replaced, and an unfinished run with other settings dropped.
    pub force: bool,
    /// The command that made it, for the report.
    pub command: Option<String>,
}

impl Output {
    /// A folder that must not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), force: false, command: None }
    }

    /// Whether an earlier output is replaced, and an unfinished run with other settings dropped. A run with the same ones is
    /// continued in any case.
    #[must_use]
    pub fn with_force(self, force: bool) -> Self {
        Self { force, ..self }
    }

    /// The command that the report names.
    #[must_use]
    pub fn with_command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// The folder with what is finished until the output is complete.
    ///
    /// # Errors
    ///
    /// If the path ends with no name.
    pub fn partial(&self) -> Result<PathBuf, PipelineError> {
        let name = self.path.file_name().ok_or_else(|| PipelineError::NoName { path: self.path.clone() })?;
        let mut name = name.to_owned();
        name.push(".partial");
        Ok(self.path.with_file_name(name))
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The folder.
    pub path: PathBuf,
    /// What became of every layer; also in the folder, as `report.json`.
    pub report: Report,
    /// How the run went; also in the folder, as `run.json`.
    pub run: RunInfo,
}

impl Finished {
    /// What is written into an output beside the checkpoint.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or is no report.
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        Ok(Self { path: path.to_owned(), report: Report::load(path)?, run: RunInfo::load(path)? })
    }
}
