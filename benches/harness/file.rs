//! Result files, replaced only when they are complete: a run that is stopped leaves the last whole one.

use std::path::Path;

/// Writes `text` to `path`, whose folder is made if need be.
///
/// # Errors
///
/// If the folder or the file cannot be written; the message names the file.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    let partial = path.with_extension("part");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&partial, text))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
