//! Which of Burn's checkpoints a run can resume from.
//!
//! Burn's file checkpointer gives a record its name once it is complete and synced. The three records of an epoch are written
//! side by side, so an epoch counts only if all of them are there.

use super::TrainingError;
use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::train::checkpoint::Checkpoint;
use std::path::{Path, PathBuf};

/// The records of an epoch.
pub(crate) const RECORDS: [&str; 3] = ["model", "optim", "scheduler"];

fn record_path(folder: &Path, name: &str, epoch: usize) -> PathBuf {
    folder.join(format!("{name}-{epoch}.bpk"))
}

/// The last epoch of which every record is there; `None` without one.
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

/// The model with the weights of `epoch`.
///
/// # Errors
///
/// If one of the epoch's records cannot be used; Burn's loop would panic.
pub(crate) fn load<M: Module>(model: M, folder: &Path, epoch: usize) -> Result<M, TrainingError> {
    let [weights, optimizer, schedule] = RECORDS.map(|name| record_path(folder, name, epoch));
    read::<OptimizerRecord>(optimizer)?;
    read::<LrSchedulerRecord>(schedule)?;
    let record: ModuleRecord = read(weights.clone())?;
    model.try_load_record(record).map_err(|error| TrainingError::file("resume from", weights, error))
}

fn read<R: Checkpoint>(path: PathBuf) -> Result<R, TrainingError> {
    R::load(path.clone()).map_err(|error| TrainingError::file("resume from", path, format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_epochs_count() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"x").unwrap();
        assert_eq!(last_complete_epoch(folder.path()), None);
        for name in ["model-9.bpk", "optim-9.bpk", "scheduler-9.bpk", "model-10.bpk", "optim-10.bpk"] {
            touch(name);
        }
        touch("scheduler-10.bpk.7-0.tmp");
        assert_eq!(last_complete_epoch(folder.path()), Some(9));
        touch("scheduler-10.bpk");
        assert_eq!(last_complete_epoch(folder.path()), Some(10));
    }

    #[test]
    fn missing_folder_has_no_epoch() {
        assert_eq!(last_complete_epoch(Path::new("/no/such/folder")), None);
    }
}
