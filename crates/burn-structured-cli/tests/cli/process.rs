//! The program as a child process.

use serde_json::Value;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// The program with these arguments.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-structured"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What the program does with these arguments.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    command(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints.
pub fn printed<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The JSON document that a command that succeeds prints.
pub fn json<S: AsRef<OsStr>>(arguments: &[S]) -> Value {
    let mut command = command(arguments);
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The only line of an error: exit code `code`, nothing on standard output, no panic.
pub fn error<S: AsRef<OsStr>>(arguments: &[S], code: i32) -> String {
    let mut command = command(arguments);
    let output = command.arg("--quiet").output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(text(&output.stdout), "", "{message}");
    assert!(message.starts_with("error: ") && !message.contains("panicked"), "{message}");
    if code != 2 {
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    message.trim_end().to_string()
}
