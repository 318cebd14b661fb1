//! Files that are complete or absent, and the locks beside them.

use burn::store::burn_pack::{AtomicFile, Error};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file at `path`: written under a name of its own, synced, and then renamed.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let (scratch, mut file) = AtomicFile::create(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Error::IoError(error.to_string()))?;
    scratch.commit()
}

/// Removes the files in `folder` that an [`AtomicFile`] or a killed process left there; `ours` is given their names.
pub(crate) fn remove_scratch_files(folder: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let scratch = name.to_str().is_some_and(|name| name.ends_with(".tmp") && ours(name));
        if scratch && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if scratch {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a new name in `folder` durable; only Unix can.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Locks the file at `path`, which is created if need be; `None` if another process holds the lock.
///
/// The operating system releases the lock with the returned file, or when the process ends in any way, so that the file of a
/// killed process does not block. On a file system without locks the file is returned unlocked.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(Some(file)),
    }
}
