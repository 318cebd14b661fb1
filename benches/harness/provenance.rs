//! Where a recorded figure comes from: commit, command and date.
//!
//! What is published has to be measurable again, so `benches/results` takes figures of a clean commit only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The Cargo features that change what a benchmark measures.
const FEATURES: [(&str, bool); 15] = [
    ("ndarray", cfg!(feature = "ndarray")),
    ("tch", cfg!(feature = "tch")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("webgpu", cfg!(feature = "webgpu")),
    ("metal", cfg!(feature = "metal")),
    ("cuda", cfg!(feature = "cuda")),
    ("cuda-cpp", cfg!(feature = "cuda-cpp")),
    ("rocm", cfg!(feature = "rocm")),
    ("cpu", cfg!(feature = "cpu")),
    ("fusion", cfg!(feature = "fusion")),
    ("autotune", cfg!(feature = "autotune")),
    ("baselines", cfg!(feature = "baselines")),
    ("compress", cfg!(feature = "compress")),
    ("tokenizers", cfg!(feature = "tokenizers")),
];
/// Environment variables that change what a benchmark measures.
const VARIABLES: [&str; 3] = ["MIMALLOC_PURGE_DELAY", "RAYON_NUM_THREADS", "CUDARC_CUDA_VERSION"];

/// The state of the checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// As committed.
    Clean(String),
    /// With changes beyond this commit, other than to recorded results.
    Dirty(String),
    /// Git does not answer.
    Unknown,
}

impl Tree {
    /// The checkout that this program was built in, as it is now.
    pub fn now() -> Self {
        let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return Self::Unknown };
        // The results of a first benchmark do not make the second one dirty.
        let changes = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benches/results"];
        match git(&changes) {
            Some(changes) if changes.is_empty() => Self::Clean(commit),
            _ => Self::Dirty(commit),
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// This program and its commit: `burn-structured 0.1.0 (1a2b3c4)`, `… (1a2b3c4-dirty)`.
pub fn program(tree: &Tree) -> String {
    let program = concat!("burn-structured ", env!("CARGO_PKG_VERSION"));
    match tree {
        Tree::Clean(commit) => format!("{program} ({commit})"),
        Tree::Dirty(commit) => format!("{program} ({commit}-dirty)"),
        Tree::Unknown => program.into(),
    }
}

/// Why the figures of `program`, as in the files, are not published; `None` if they are.
pub fn unpublished(program: &str) -> Option<&'static str> {
    if program.contains("-dirty") {
        return Some("measured with changes that were not committed");
    }
    // Other programs are told by their version.
    let own = program.is_empty() || program.starts_with("burn-structured");
    (own && !program.contains('(')).then_some("the commit was not recorded")
}

/// Whether figures of `tree` may be written to `path`.
///
/// # Errors
///
/// If `path` is in `benches/results` and the tree is not clean.
pub fn may_record(path: &Path, tree: &Tree) -> Result<(), String> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join("results");
    let why = match tree {
        Tree::Clean(_) => return Ok(()),
        Tree::Dirty(commit) => format!("the tree has changes that are not in {commit}"),
        Tree::Unknown => "git does not say which commit this is".into(),
    };
    if !resolved(path).starts_with(resolved(&results)) {
        return Ok(());
    }
    Err(format!(
        "{}: only figures of a clean commit are recorded in benches/results, and {why}; commit first, or write elsewhere, \
         such as --out target/bench",
        path.display()
    ))
}

/// Absolute and without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = path.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    match existing {
        Some((folder, real)) => real.join(path.strip_prefix(folder).expect("an ancestor")),
        None => path,
    }
}

/// The command line of this run of a benchmark, as it would be typed.
pub fn command(bench: &str) -> String {
    command_line(&format!("cargo bench --bench {bench}"))
}

/// The command line of this run, as it would be typed after what starts the program, such as `cargo run --example generate`.
pub fn command_line(start: &str) -> String {
    let variables = VARIABLES.iter().filter_map(|name| Some(format!("{name}={} ", std::env::var(name).ok()?)));
    let features: Vec<&str> = FEATURES.iter().filter(|(_, enabled)| *enabled).map(|(name, _)| *name).collect();
    let features = if features.is_empty() { String::new() } else { format!(" --features {}", features.join(",")) };
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").map(|argument| quoted(&argument)).collect();
    let arguments = if arguments.is_empty() { String::new() } else { format!(" -- {}", arguments.join(" ")) };
    format!("{}{start}{features}{arguments}", variables.collect::<String>())
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+".contains(c);
    if argument.chars().all(plain) { argument.into() } else { format!("'{argument}'") }
}

/// The time in UTC: `2026-11-29 13:05`.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60)
}

/// Year, month and day of the proleptic Gregorian calendar, of days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + 400 * era + u64::from(month <= 2), month, day)
}
