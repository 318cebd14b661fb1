//! Files that are replaced as a whole: a process that is killed leaves the earlier file or the new one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes `bytes` to a new file beside `path`, synchronizes it with the disk and gives it the name `path`.
///
/// # Errors
///
/// If the file cannot be written; an earlier file at `path` is then unchanged.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (mut file, partial) = create_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let replaced = written.and_then(|()| fs::rename(&partial, path));
    if replaced.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    replaced
}

/// A new file in the folder of `path`, of a name that no other file, process or thread has.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    static CREATED: AtomicUsize = AtomicUsize::new(0);
    loop {
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_file_name(format!(".burn-structured-{}-{number}.part", std::process::id()));
        match File::create_new(&partial) {
            Ok(file) => return Ok((file, partial)),
            // Left by a process that had this identifier and was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_only_the_whole_file() {
        let folder = std::env::temp_dir().join(format!("burn-structured-replace-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("results.json");
        let other = folder.join("results.part");
        fs::write(&other, "of another program").unwrap();
        std::thread::scope(|scope| {
            for text in ["one", "two", "three"] {
                let path = &path;
                scope.spawn(move || replace(path, text.as_bytes()).unwrap());
            }
        });
        let found = fs::read_to_string(&path).unwrap();
        assert!(["one", "two", "three"].contains(&found.as_str()), "{found}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "of another program");
        // A folder cannot be replaced by a file.
        fs::create_dir(folder.join("taken")).unwrap();
        assert!(replace(&folder.join("taken"), b"four").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        fs::remove_dir_all(&folder).unwrap();
    }
}
