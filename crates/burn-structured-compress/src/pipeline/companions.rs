//! The other files of a model's folder: configuration, tokenizer, license.

use super::PipelineError;
use burn_structured_checkpoint::Checkpoint;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Endings of files that belong to a model and are not weights.
const ENDINGS: [&str; 9] = ["json", "txt", "model", "jinja", "md", "tiktoken", "spm", "vocab", "bpe"];
/// Names of files without ending.
const NAMES: [&str; 3] = ["LICENSE", "NOTICE", "COPYING"];
/// What a run writes itself.
const OWN: [&str; 2] = ["report.json", "run.json"];
/// The largest file that is copied: vocabularies have a few megabytes.
const MAX_BYTES: u64 = 1 << 28;

/// Copies the files that belong to the model of a checkpoint, and those in folders directly below, such as the modules of sentence
/// encoders. A checkpoint that is one file among others has none, unless there is the `config.json` of a model.
///
/// # Errors
///
/// If a file cannot be read or written.
pub(super) fn copy(checkpoint: &Checkpoint, output: &Path) -> Result<(), PipelineError> {
    let Some(folder) = checkpoint.folder() else { return Ok(()) };
    if !checkpoint.path().is_dir() && !describes_model(&folder.join("config.json")) {
        return Ok(());
    }
    for entry in entries(folder)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        if is_companion(name) {
            copy_file(&entry, &output.join(name))?;
        } else if is_folder(&entry)
            && !name.starts_with('.')
            && !name.ends_with(".partial")
            && !entry.join("model.safetensors").exists()
        {
            let inner: Vec<PathBuf> = entries(&entry)?;
            for file in inner {
                let Some(inner) = file.file_name().and_then(|name| name.to_str()) else { continue };
                if is_companion(inner) {
                    copy_file(&file, &output.join(name).join(inner))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether it is the configuration of a model, and not that of an application beside whose files one lies.
fn describes_model(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    ["model_type", "architectures"].iter().any(|field| fields.get(field).is_some())
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    let all = fs::read_dir(folder).and_then(|all| all.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut all: Vec<PathBuf> = all.map_err(PipelineError::read(folder))?;
    all.sort();
    Ok(all)
}

/// Whether it is a folder itself: a link may lead anywhere.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn is_companion(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let known = match lower.rsplit_once('.') {
        Some((_, ending)) => ENDINGS.contains(&ending),
        None => NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)),
    };
    known && !name.starts_with('.') && !lower.ends_with(".index.json") && !OWN.contains(&lower.as_str())
}

/// Copies a regular file, or what a link to one leads to: caches of downloads consist of links.
fn copy_file(from: &Path, to: &Path) -> Result<(), PipelineError> {
    let Ok(found) = fs::metadata(from) else { return Ok(()) };
    if !found.is_file() || found.len() > MAX_BYTES {
        return Ok(());
    }
    let bytes = fs::read(from).map_err(PipelineError::read(from))?;
    let written = || {
        fs::create_dir_all(to.parent().unwrap_or(Path::new("")))?;
        fs::write(to, &bytes)?;
        File::open(to)?.sync_all()
    };
    written().map_err(PipelineError::write(to))
}
