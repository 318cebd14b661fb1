//! Checkpoints that a kill cannot leave half-written.
//!
//! Burn's own file checkpointer writes to the final name. Here a record is written beside it and renamed when it is
//! complete, and an epoch counts only if all of its three records are there.

use burn::train::checkpoint::{Checkpoint, Checkpointer, CheckpointerError};
use std::path::{Path, PathBuf};

/// The records of an epoch.
pub(super) const RECORDS: [&str; 3] = ["model", "optim", "scheduler"];

/// Saves records of one kind as `<folder>/<name>-<epoch>.bpk`.
pub(super) struct AtomicCheckpointer {
    folder: PathBuf,
    name: &'static str,
}

impl AtomicCheckpointer {
    pub fn new(folder: &Path, name: &'static str) -> Self {
        Self { folder: folder.to_owned(), name }
    }
}

fn record_path(folder: &Path, name: &str, epoch: usize) -> PathBuf {
    folder.join(format!("{name}-{epoch}.bpk"))
}

impl<R: Checkpoint> Checkpointer<R> for AtomicCheckpointer {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        std::fs::create_dir_all(&self.folder).map_err(CheckpointerError::IOError)?;
        let partial = self.folder.join(format!("{}-{epoch}.part.bpk", self.name));
        record.save(partial.clone())?;
        std::fs::rename(partial, record_path(&self.folder, self.name, epoch)).map_err(CheckpointerError::IOError)
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        match std::fs::remove_file(record_path(&self.folder, self.name, epoch)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CheckpointerError::IOError(error)),
            _ => Ok(()),
        }
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        R::load(record_path(&self.folder, self.name, epoch))
    }
}

/// The last epoch of which every record is complete.
pub fn last_complete_epoch(folder: &Path) -> Option<usize> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("model-")?.strip_suffix(".bpk")?.parse().ok()
        })
        .filter(|epoch| RECORDS.iter().all(|name| record_path(folder, name, *epoch).is_file()))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_epochs_count() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"x").unwrap();
        assert_eq!(last_complete_epoch(folder.path()), None);
        for name in ["model-9.bpk", "optim-9.bpk", "scheduler-9.bpk", "model-10.bpk", "optim-10.bpk"] {
            touch(name);
        }
        touch("scheduler-10.part.bpk");
        assert_eq!(last_complete_epoch(folder.path()), Some(9));
        touch("scheduler-10.bpk");
        assert_eq!(last_complete_epoch(folder.path()), Some(10));
    }

    #[test]
    fn a_missing_folder_has_no_epoch() {
        assert_eq!(last_complete_epoch(Path::new("/no/such/folder")), None);
    }
}
