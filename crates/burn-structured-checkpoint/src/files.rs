//! Files that are complete or absent: a process that is killed leaves the earlier file or the new one.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How the name of a file that is being written begins and ends; the first character hides it.
const SCRATCH: (&str, &str) = (".burn-structured-", ".part");

/// Writes `bytes` to a new file beside `path`, synchronizes it with the disk and gives it the name `path`.
///
/// # Errors
///
/// If the file cannot be written; an earlier file at `path` is then unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Replacement::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that takes the place of another when it is [committed](Replacement::commit), and is removed if it is not.
#[derive(Debug)]
pub struct Replacement {
    file: BufWriter<File>,
    scratch: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// A new file in the folder of `path`, of a name that no other file, process or thread has.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        if path.file_name().is_none() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the path ends with no name of a file"));
        }
        loop {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let (begin, end) = SCRATCH;
            let scratch = path.with_file_name(format!("{begin}{}-{number}{end}", std::process::id()));
            match File::create_new(&scratch) {
                Ok(file) => {
                    let file = BufWriter::with_capacity(1 << 20, file);
                    return Ok(Self { file, scratch, path: path.to_owned() });
                }
                // Left by a process that had this identifier and was killed.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Synchronizes the file with the disk and moves it to its path.
    ///
    /// # Errors
    ///
    /// If that fails; an earlier file at the path is then unchanged.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.scratch, &self.path)?;
        match self.path.parent() {
            // The file is there in any case; a folder that cannot be synchronized, as on some network disks, is no failure.
            Some(folder) => sync_folder(folder).or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Absent once it is committed.
        let _ = fs::remove_file(&self.scratch);
    }
}

/// Makes new and removed names in `folder` durable; only Unix can.
///
/// # Errors
///
/// If the operating system cannot.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes files that killed processes were writing in `folder`. Nobody else may be writing there.
///
/// # Errors
///
/// If the folder cannot be read, or a file cannot be removed; a folder that does not exist has none.
pub fn remove_scratch(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let (begin, end) = SCRATCH;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(begin) && name.ends_with(end)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Locks the file at `path`, which is created if need be; `None` if another process holds the lock.
///
/// The operating system releases the lock with the returned file, or when the process ends in any way, so that the file of a
/// killed process does not block. On a file system without locks the file is returned unlocked.
///
/// # Errors
///
/// If the file cannot be opened or locked.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => Ok(Some(file)),
    }
}
