//! How a run went: when, where, for how long, and what was measured afterwards.

use crate::pipeline::PipelineError;
use burn_structured_checkpoint::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "run.json";
/// The most bytes of a report that are read.
const MAX_BYTES: u64 = 1 << 26;

/// `run.json`: how a run went. Not the same when it is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The command that made the output, if there was one.
    pub command: Option<String>,
    /// When the output was complete, in seconds since 1970.
    pub finished: u64,
    /// How long it took in all, without the parts of killed processes that were lost.
    pub seconds: f64,
    /// The most memory that the last process of the run had, in bytes, where the operating system tells.
    pub peak_memory: Option<u64>,
    /// Where it ran.
    pub environment: Environment,
    /// What was measured on the output.
    #[serde(default)]
    pub scores: Vec<Score>,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The operating system.
    pub os: String,
    /// The instruction set.
    pub arch: String,
    /// The processor, if it is known.
    pub processor: Option<String>,
    /// Threads that can run at once.
    pub threads: usize,
    /// The device that computed.
    pub device: String,
}

/// A measurement of the dense and of the compressed model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What was measured: `STS-Benchmark dev, Spearman`.
    pub name: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Of the dense model, if it was measured.
    pub dense: Option<f64>,
    /// Of the compressed model.
    pub compressed: f64,
}

impl RunInfo {
    /// A run that ends now, on this machine.
    pub(crate) fn now(command: Option<String>, seconds: f64, device: String) -> Self {
        Self {
            command,
            finished: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            // To the millisecond: `serde_json` does not read every longer number back as it was.
            seconds: (1e3 * seconds).round() / 1e3,
            peak_memory: peak_memory(),
            environment: Environment {
                os: std::env::consts::OS.to_string(),
                arch: std::env::consts::ARCH.to_string(),
                processor: processor(),
                threads: std::thread::available_parallelism().map_or(1, usize::from),
                device,
            },
            scores: Vec::new(),
        }
    }

    /// Reads how the run of an output went.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is in no known format.
    pub fn load(output: &Path) -> Result<Self, PipelineError> {
        read_json(&output.join(FILE))
    }

    /// Writes how the run of an output went.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, output: &Path) -> Result<(), PipelineError> {
        let path = output.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| files::replace(&path, &text)).map_err(PipelineError::write(&path))
    }

    /// Adds a score, in the place of an earlier one of the same name.
    pub fn add_score(&mut self, score: Score) {
        self.scores.retain(|known| known.name != score.name);
        self.scores.push(score);
    }
}

/// A JSON file of a size that a report has.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PipelineError> {
    let found = fs::metadata(path).map_err(PipelineError::read(path))?;
    if !found.is_file() || found.len() > MAX_BYTES {
        let reason = "it is no file of the size that a report has".to_string();
        return Err(PipelineError::Report { path: path.to_owned(), reason });
    }
    let text = fs::read(path).map_err(PipelineError::read(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| PipelineError::Report { path: path.to_owned(), reason: error.to_string() })
}

/// The most memory that this process has had, in bytes; only Linux tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_info_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunInfo::now(Some("compress <x>".into()), 1.5, "flex".into());
        let score = |compressed| Score { name: "s".into(), higher_is_better: true, dense: None, compressed };
        run.add_score(score(1.0));
        run.add_score(score(2.0));
        assert_eq!(run.scores, [score(2.0)]);
        run.save(folder.path()).unwrap();
        assert_eq!(RunInfo::load(folder.path()).unwrap(), run);
        #[cfg(target_os = "linux")]
        assert!(run.peak_memory.is_some_and(|bytes| bytes > 1 << 20));
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = RunInfo::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("run.json"), "{error}");
    }
}
