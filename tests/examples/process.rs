//! The examples as child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An example, which `cargo test` builds next to the tests.
pub fn example(name: &str) -> Command {
    let tests = std::env::current_exe().expect("a test has a path");
    let profile = tests.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let mut command = Command::new(profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)));
    command.stdin(Stdio::null());
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What an example that succeeds prints on standard output.
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Kills a run as soon as all of `files` are there.
pub fn kill_after(mut run: Child, files: &[PathBuf]) {
    let started = Instant::now();
    while !files.iter().all(|file| file.is_file()) {
        assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint appeared");
        assert!(run.try_wait().expect("a child").is_none(), "the run ended without being killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    run.kill().expect("a running child");
    run.wait().expect("a child");
}

/// One message without a panic, and nothing in `out`.
pub fn assert_one_error(output: &Output, message: &str, out: &Path) {
    let error = text(&output.stderr);
    assert!(!output.status.success(), "it succeeded instead of: {message}");
    assert!(error.contains(message), "{error}\ninstead of: {message}");
    assert!(!error.contains("panicked"), "{error}");
    assert!(!out.exists(), "something was written beside: {message}");
}
