//! One run at a time.

use crate::pipeline::PipelineError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::Path;

/// Keeps other runs out until it is dropped, or the process ends in any way.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held")] File);

/// The file in a run's folder that is locked.
pub(super) const FILE: &str = "lock";

impl Lock {
    /// Locks a folder, which is created if need be.
    ///
    /// # Errors
    ///
    /// If another process holds it, or the folder cannot be written.
    pub fn acquire(folder: &Path) -> Result<Self, PipelineError> {
        let path = folder.join(FILE);
        loop {
            fs::create_dir_all(folder).map_err(PipelineError::write(folder))?;
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = match opened {
                // Removed by a run that ended in this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !folder.exists() => continue,
                opened => opened.map_err(PipelineError::write(&path))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let process = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                    return Err(PipelineError::InUse { path: folder.to_owned(), process });
                }
                Err(TryLockError::Error(source)) => return Err(PipelineError::write(&path)(source)),
            }
            // A run that ended in this moment has removed the file that is locked here; another may have a new one.
            if is_at(&file, &path) {
                // The number is for the message of others only.
                let _ =
                    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
                return Ok(Self(file));
            }
        }
    }
}

/// Whether the open file is the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Whether the open file is the one at `path`: open files cannot be removed here.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acquire_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.partial");
        let lock = Lock::acquire(&path).unwrap();
        let error = Lock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        drop(Lock::acquire(&path).unwrap());
        // Many at once: one at a time has it.
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let Ok(lock) = Lock::acquire(&path) else { continue };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        let _ = fs::remove_file(path.join(FILE));
                        drop(lock);
                    }
                });
            }
        });
    }
}
