//! Folders and hashes.

use super::{hex, lock, manifest};
use crate::pipeline::PipelineError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// `Err` if the output must not be replaced, forced or not: a file, a folder that holds no model, or one that holds what the run
/// reads.
pub(super) fn check_output(path: &Path, sources: &[PathBuf]) -> Result<(), PipelineError> {
    let refused = |what| Err(PipelineError::NotReplaced { path: path.to_owned(), what });
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(PipelineError::read(path))?,
    };
    if found.is_symlink() {
        return refused("a link");
    }
    if !found.is_dir() {
        return refused("no folder");
    }
    let whole = path.canonicalize().map_err(PipelineError::read(path))?;
    for source in sources {
        if source.canonicalize().is_ok_and(|source| source.starts_with(&whole)) {
            return refused("a folder that holds the model itself");
        }
    }
    let empty = fs::read_dir(path).map_err(PipelineError::read(path))?.next().is_none();
    if !empty && !path.join("model.safetensors").is_file() {
        return refused("a folder without model.safetensors");
    }
    Ok(())
}

/// `Err` if the folder of the run is there and was made by something else: what is in it would be removed.
pub(super) fn check_partial(path: &Path) -> Result<(), PipelineError> {
    if path.join(manifest::FILE).exists() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(PipelineError::read(path))?,
    };
    for entry in entries {
        let name = entry.map_err(PipelineError::read(path))?.file_name();
        // What a run that was killed at its very beginning leaves.
        let ours = name.to_str().is_some_and(|name| name == lock::FILE || name.starts_with(".burn-structured-"));
        if !ours {
            let what = "a folder that no run has made";
            return Err(PipelineError::NotReplaced { path: path.to_owned(), what });
        }
    }
    Ok(())
}

/// Removes what is in a folder, except files of these names.
pub(super) fn clear(folder: &Path, except: &[&str]) -> Result<(), PipelineError> {
    for entry in fs::read_dir(folder).map_err(PipelineError::read(folder))? {
        let entry = entry.map_err(PipelineError::read(folder))?;
        if entry.file_name().to_str().is_some_and(|name| except.contains(&name)) {
            continue;
        }
        remove(&entry.path())?;
    }
    Ok(())
}

/// Removes a file or a folder, if it is there. The folder of a run loses its manifest and its lock last, so that it is known for
/// what it is as long as it is there.
pub(super) fn remove(path: &Path) -> Result<(), PipelineError> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => {
            if path.join(manifest::FILE).is_file() {
                clear(path, &[manifest::FILE, lock::FILE])?;
                remove(&path.join(manifest::FILE))?;
            }
            fs::remove_dir_all(path)
        }
        Ok(_) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(PipelineError::write(path)(error)),
        _ => Ok(()),
    }
}

/// The SHA-256 of a file, as hexadecimal digits.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&chunk[..read]),
        }
    }
}

/// Some file systems cannot synchronize folders, which is no reason to fail.
pub(super) fn unless_unsupported(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Unsupported | ErrorKind::InvalidInput => Ok(()),
        _ => Err(error),
    }
}
