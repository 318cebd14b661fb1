//! The machine a result belongs to. A time without it says nothing.

use serde::{Deserialize, Serialize};

/// What the times of a file depend on besides the code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as it names itself.
    pub processor: String,
    /// Threads this process may use.
    pub threads: usize,
    /// The widest vectors that matter here: `avx512`, `avx2`, `neon` or `scalar`.
    pub vectors: String,
    /// Operating system and architecture.
    pub system: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            processor: processor().unwrap_or_else(|| "unknown processor".into()),
            threads,
            vectors: vectors().into(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        format!("{}, {} threads, {}, {}", self.processor, self.threads, self.vectors, self.system)
    }
}

fn processor() -> Option<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpus.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "scalar" }
}
