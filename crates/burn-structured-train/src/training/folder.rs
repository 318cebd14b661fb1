//! The folder of one run: its lock, settings, checkpoints, weights and result.

use super::TrainingError;
use super::checkpoint::last_complete_epoch;
use crate::files;
use burn::module::Module;
use burn_structured_checkpoint::files::{remove_scratch, replace, try_lock};
use burn_structured_nn::Structure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The settings of one kind of run: everything that decides how such a run goes.
///
/// The folder of a run keeps them as JSON, and a run resumes only with the settings it was started with.
pub trait Settings: Serialize + DeserializeOwned {
    /// What a finished run achieved.
    type Result: Serialize + DeserializeOwned;

    /// The files that such a run writes beside those of every run.
    const FILES: &'static [&'static str] = &[];
}

/// What to do with a folder that already holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Start a new run; an earlier one, finished or not, is an error.
    New,
    /// Continue a run from its last complete epoch, or start if there is none.
    Resume,
    /// Start a new run, dropping an earlier one.
    Fresh,
}

/// A folder that is ready for a run, and locked for it.
pub(crate) struct Prepared {
    /// The epoch after which the run resumes; `None` for a new run.
    pub resumed: Option<usize>,
    /// Keeps other runs out until it is dropped.
    _lock: File,
}

/// A run's folder on disk.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// What burn-train and this crate write into the folder of every run. Beside the [files](Settings::FILES) of the kind of
    /// run, nothing else is ever removed from it; the lock stays.
    const CONTENTS: [&'static str; 8] = [
        "settings.json",
        "result.json",
        "model.bpk",
        "interrupted.bpk",
        "experiment.log",
        "checkpoint",
        "train",
        "valid",
    ];

    /// The run in `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The run of a structure below `root`, in a folder with the structure's name: `blast-b-4-ratio-0.33`.
    pub fn of_structure(root: &Path, structure: Structure) -> Self {
        Self::new(root.join(structure.to_string().replace([':', ',', '='], "-")))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The weights of a finished run, in Burn's burnpack format.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.bpk")
    }

    /// The weights of an interrupted run, as they were.
    pub fn interrupted_model(&self) -> PathBuf {
        self.path.join("interrupted.bpk")
    }

    /// The result of a finished run with these settings; `None` if there is no finished run.
    ///
    /// # Errors
    ///
    /// If the finished run had other settings, or they cannot be read.
    pub fn finished<S: Settings>(&self, settings: &S) -> Result<Option<S::Result>, TrainingError> {
        match self.result::<S>() {
            Some(result) => self.check_same(settings).map(|()| Some(result)),
            None => Ok(None),
        }
    }

    /// The result of a finished run of this kind.
    pub fn result<S: Settings>(&self) -> Option<S::Result> {
        self.read("result.json").ok().flatten()
    }

    /// The settings that a run here was started with.
    ///
    /// # Errors
    ///
    /// If there was none, or one of another kind.
    pub fn settings<S: Settings>(&self) -> Result<S, TrainingError> {
        let missing = || TrainingError::file("read", self.path.join("settings.json"), "it is missing");
        self.read("settings.json")?.ok_or_else(missing)
    }

    /// `model` with the weights of the finished run.
    ///
    /// # Errors
    ///
    /// If there are none, or they are those of another model.
    pub fn load<M: Module>(&self, model: M) -> Result<M, TrainingError> {
        let path = self.model();
        if !path.is_file() {
            return Err(TrainingError::file("read", path, "it is missing; the run has not finished"));
        }
        model.try_load_file(&path).map_err(|error| TrainingError::file("read", path, error))
    }

    /// Whether a run may start here.
    ///
    /// # Errors
    ///
    /// If `start` is [`Start::New`] and the folder holds an earlier run.
    pub fn check(&self, start: Start) -> Result<(), TrainingError> {
        if start != Start::New {
            return Ok(());
        }
        if self.is_finished() {
            return Err(TrainingError::Finished { path: self.path.clone() });
        }
        match last_complete_epoch(&self.checkpoints()) {
            Some(epoch) => Err(TrainingError::Unfinished { path: self.path.clone(), epoch }),
            None => Ok(()),
        }
    }

    /// Whether there is what only a finished run leaves, of whatever kind.
    fn is_finished(&self) -> bool {
        ["result.json", "model.bpk"].iter().any(|name| self.path.join(name).exists())
    }

    /// Makes the folder ready for a run with `settings`, and keeps other runs out of it.
    ///
    /// # Errors
    ///
    /// If another run is using the folder, if it holds an earlier run that `start` neither drops nor continues, if the run to
    /// resume had other settings, or if a file cannot be read, written or removed.
    pub(crate) fn prepare<S: Settings>(&self, settings: &S, start: Start) -> Result<Prepared, TrainingError> {
        std::fs::create_dir_all(&self.path).map_err(|error| TrainingError::file("create", &self.path, error))?;
        let lock = self.lock()?;
        self.check(start)?;
        if let (Start::Resume, Some(epoch)) = (start, last_complete_epoch(&self.checkpoints())) {
            self.check_same(settings)?;
            self.remove_scratch_files::<S>()?;
            return Ok(Prepared { resumed: Some(epoch), _lock: lock });
        }
        if start == Start::Resume && self.is_finished() {
            return Err(TrainingError::Finished { path: self.path.clone() });
        }
        self.clear::<S>()?;
        self.remove_scratch_files::<S>()?;
        self.write("settings.json", settings)?;
        Ok(Prepared { resumed: None, _lock: lock })
    }

    fn lock(&self) -> Result<File, TrainingError> {
        let path = self.path.join("run.lock");
        match try_lock(&path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(TrainingError::InUse { path: self.path.clone() }),
            Err(error) => Err(TrainingError::file("lock", path, error)),
        }
    }

    /// Removes what a killed run was writing, `model-3.bpk.4711-0.tmp` and `.burn-structured-4711-0.part`.
    fn remove_scratch_files<S: Settings>(&self) -> Result<(), TrainingError> {
        let ours = |name: &str| Self::contents::<S>().any(|known| name.starts_with(known));
        let checkpoints = self.checkpoints();
        // The lock keeps others from writing here.
        remove_scratch(&self.path)
            .and_then(|()| files::remove_scratch_files(&self.path, ours))
            .and_then(|()| files::remove_scratch_files(&checkpoints, |_| true))
            .map_err(|error| TrainingError::file("clear", &self.path, error))
    }

    fn check_same<S: Settings>(&self, settings: &S) -> Result<(), TrainingError> {
        let path = self.path.join("settings.json");
        let error = |error| TrainingError::file("compare", &path, error);
        // Both once through the text, which does not keep the last bit of every number.
        let value = |settings: &S| -> Result<serde_json::Value, serde_json::Error> {
            serde_json::from_str(&serde_json::to_string(settings)?)
        };
        // Read as settings, so that what an older version did not know has its default.
        let before = match self.read::<S>("settings.json") {
            Ok(Some(before)) => value(&before).map_err(error)?,
            Ok(None) => return Err(TrainingError::file("read", path, "it is missing")),
            // Those of another kind of run differ in more than values.
            Err(error) => self.read("settings.json").ok().flatten().ok_or(error)?,
        };
        match first_difference("", &before, &value(settings).map_err(error)?) {
            None => Ok(()),
            Some(difference) => Err(TrainingError::OtherSettings { path: self.path.clone(), difference }),
        }
    }

    fn contents<S: Settings>() -> impl Iterator<Item = &'static str> {
        Self::CONTENTS.iter().chain(S::FILES).copied()
    }

    fn clear<S: Settings>(&self) -> Result<(), TrainingError> {
        for name in Self::contents::<S>() {
            let path = self.path.join(name);
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TrainingError::file("remove", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn write_result(&self, result: &impl Serialize) -> Result<(), TrainingError> {
        self.write("result.json", result)
    }

    /// Saves weights; Burn gives the file its name once it is complete and synced.
    pub(crate) fn write_model(&self, model: impl Module, path: PathBuf) -> Result<(), TrainingError> {
        model.save_file(&path).map_err(|error| TrainingError::file("write", path, format!("{error:?}")))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), TrainingError> {
        let path = self.path.join(name);
        let text = serde_json::to_string_pretty(value).map_err(|error| TrainingError::file("write", &path, error))?;
        replace(&path, (text + "\n").as_bytes()).map_err(|error| TrainingError::file("write", path, error))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, TrainingError> {
        let path = self.path.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainingError::file("read", path, error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| TrainingError::file("read", path, error))
    }
}

/// The first setting that differs, with both values: `recipe.lr was 0.001, now 0.5`.
fn first_difference(name: &str, before: &serde_json::Value, now: &serde_json::Value) -> Option<String> {
    use serde_json::Value::Object;
    match (before, now) {
        (Object(before), Object(now)) => {
            let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let missing = serde_json::Value::Null;
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                first_difference(&name, before.get(key).unwrap_or(&missing), now.get(key).unwrap_or(&missing))
            })
        }
        _ if before == now => None,
        _ => Some(format!("{name} was {before}, now {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct TestSettings {
        recipe: TestRecipe,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct TestRecipe {
        epochs: usize,
        lr: f64,
        min_lr: f64,
    }

    impl Settings for TestSettings {
        type Result = f64;
        const FILES: &'static [&'static str] = &["curve.csv"];
    }

    fn settings() -> TestSettings {
        TestSettings { recipe: TestRecipe { epochs: 20, lr: 1e-3, min_lr: 1e-5 } }
    }

    fn with_checkpoint(folder: &RunFolder, epoch: usize) {
        folder.prepare(&settings(), Start::New).unwrap();
        std::fs::create_dir_all(folder.checkpoints()).unwrap();
        for name in super::super::checkpoint::RECORDS {
            std::fs::write(folder.checkpoints().join(format!("{name}-{epoch}.bpk")), b"x").unwrap();
        }
    }

    #[test]
    fn unfinished_run_needs_resume_or_fresh() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path().join("run"));
        with_checkpoint(&folder, 3);
        let error = folder.prepare(&settings(), Start::New).err().unwrap();
        assert!(matches!(error, TrainingError::Unfinished { epoch: 3, .. }), "{error}");
        assert_eq!(folder.prepare(&settings(), Start::Resume).unwrap().resumed, Some(3));
        assert_eq!(folder.prepare(&settings(), Start::Fresh).unwrap().resumed, None);
        assert!(!folder.checkpoints().exists());
    }

    #[test]
    fn finished_run_is_replaced_by_fresh_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        folder.prepare(&settings(), Start::New).unwrap();
        for file in ["model.bpk", "result.json"] {
            std::fs::write(root.path().join(file), "of another kind of run").unwrap();
            for start in [Start::New, Start::Resume] {
                let error = folder.prepare(&settings(), start).err().unwrap();
                assert!(matches!(error, TrainingError::Finished { .. }), "{file}, {start:?}: {error}");
                assert!(root.path().join(file).exists(), "{file}, {start:?}");
            }
            folder.prepare(&settings(), Start::Fresh).unwrap();
            assert!(!root.path().join(file).exists(), "{file}");
        }
    }

    #[test]
    fn settings_compare_equal_after_json() {
        for lr in [1.2e-3, 1e-3 / 100.0, 3e-5 * (1e-3 / 3e-3), 0.1 + 0.2] {
            let root = tempfile::tempdir().unwrap();
            let folder = RunFolder::new(root.path());
            let mut settings = settings();
            (settings.recipe.lr, settings.recipe.min_lr) = (lr, lr / 100.0);
            folder.prepare(&settings, Start::New).unwrap();
            folder.check_same(&settings).unwrap();
        }
    }

    #[test]
    fn resume_names_the_setting_that_differs() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        with_checkpoint(&folder, 1);
        let mut other = settings();
        other.recipe.lr = 0.5;
        let error = folder.prepare(&other, Start::Resume).err().unwrap().to_string();
        assert!(error.contains("recipe.lr was 0.001, now 0.5"), "{error}");
    }

    #[test]
    fn finished_run_must_have_the_same_settings() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        assert!(folder.finished(&settings()).unwrap().is_none());
        folder.prepare(&settings(), Start::New).unwrap();
        folder.write_result(&0.5).unwrap();
        assert_eq!(folder.finished(&settings()).unwrap(), Some(0.5));
        let mut other = settings();
        other.recipe.epochs = 5;
        let error = folder.finished(&other).unwrap_err().to_string();
        assert!(error.contains("recipe.epochs was 20, now 5"), "{error}");
    }

    #[test]
    fn fresh_start_keeps_unknown_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("thesis.txt"), "precious").unwrap();
        RunFolder::new(root.path()).prepare(&settings(), Start::Fresh).unwrap();
        assert!(root.path().join("thesis.txt").exists());
    }

    #[test]
    fn fresh_start_removes_the_files_of_the_kind_of_run() {
        let root = tempfile::tempdir().unwrap();
        for name in ["curve.csv", "other.csv"] {
            std::fs::write(root.path().join(name), "1").unwrap();
        }
        RunFolder::new(root.path()).prepare(&settings(), Start::Fresh).unwrap();
        assert!(!root.path().join("curve.csv").exists());
        assert!(root.path().join("other.csv").exists());
    }

    #[test]
    fn two_runs_in_one_folder_exclude_each_other() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        for start in [Start::New, Start::Resume, Start::Fresh] {
            let running = folder.prepare(&settings(), Start::Fresh).unwrap();
            let error = folder.prepare(&settings(), start).err().unwrap();
            assert!(matches!(error, TrainingError::InUse { .. }), "{error}");
            drop(running);
            folder.prepare(&settings(), start).unwrap();
        }
    }

    #[test]
    fn lock_file_of_a_killed_run_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("run.lock"), "").unwrap();
        assert!(RunFolder::new(root.path()).prepare(&settings(), Start::New).is_ok());
    }

    #[test]
    fn scratch_files_of_a_killed_run_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        with_checkpoint(&folder, 1);
        let ours = ".burn-structured-1-0.part";
        for name in ["result.json.1-0.tmp", "checkpoint/model-2.bpk.1-0.tmp", "thesis.tmp", ours] {
            std::fs::write(root.path().join(name), b"x").unwrap();
        }
        folder.prepare(&settings(), Start::Resume).unwrap();
        assert!(!root.path().join("result.json.1-0.tmp").exists() && !root.path().join(ours).exists());
        assert!(!root.path().join("checkpoint/model-2.bpk.1-0.tmp").exists());
        assert!(root.path().join("thesis.tmp").exists());
    }
}
