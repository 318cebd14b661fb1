//! Runs that are killed, interrupted, or cannot write.

use crate::fixture::{Fixture, bytes_of, lasting};
use crate::process::{command, error, printed, text};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills a run after so many units, or so long; whether it was still running.
fn kill_run(arguments: &[String], after: Duration) -> bool {
    let mut run = command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < after {
        if run.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().unwrap();
    !run.wait().unwrap().success()
}

#[test]
fn killed_run_continues_to_the_same_bytes() {
    let files = Fixture::new();
    let began = Instant::now();
    printed(&files.blockwise("whole"));
    let time = began.elapsed();
    let whole = lasting(&files.file("whole"));
    let mut killed = 0;
    for moment in 1..=6_u32 {
        let output = format!("killed-{moment}");
        let arguments = files.blockwise(&output);
        // Killed twice, at different moments.
        for part in [moment, 7 - moment] {
            killed += usize::from(kill_run(&arguments, time * part / 8));
            assert!(
                !files.file(&output).exists() || lasting(&files.file(&output)) == whole,
                "it is neither complete nor absent"
            );
        }
        if !files.file(&output).exists() {
            printed(&arguments);
        }
        assert!(lasting(&files.file(&output)) == whole, "killed at {moment}/8, the result differs");
        assert!(!files.file(&format!("{output}.partial")).exists());
    }
    assert!(killed >= 3, "only {killed} runs were killed in time");
}

#[cfg(unix)]
#[test]
fn interrupted_run_says_how_to_continue() {
    let files = Fixture::new();
    printed(&files.blockwise("whole"));
    let mut arguments = files.blockwise("small");
    // Long enough to be interrupted.
    let steps = arguments.iter().position(|argument| argument == "--distill-steps").unwrap() + 1;
    arguments[steps] = "100000".into();
    let run = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (partial, began) = (files.file("small.partial/block-001.safetensors"), Instant::now());
    while !partial.is_file() {
        assert!(began.elapsed() < Duration::from_secs(120), "no block was finished");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    let output = run.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("run the same command again to continue"), "{message}");
    assert!(!files.file("small").exists());
    for command in ["verify", "report", "inspect"] {
        let found = error(&[command, &files.path("small")], 1);
        assert!(found.contains("small.partial holds an unfinished run"), "{found}");
    }

    // Other settings are refused, with the difference.
    arguments[steps] = "4".into();
    let found = error(&arguments, 1);
    assert!(found.contains("small.partial") && found.contains("--force"), "{found}");
    assert!(found.contains("--distill-steps 100000 "), "{found}");
    fs::write(files.file("plan.toml"), "format = 1\n[[rule]]\npattern = 'query'\nstructure = 'low-rank:r=2'\n")
        .unwrap();
    let found = error(&arguments, 1);
    assert!(found.contains("structure of"), "{found}");
}

#[test]
fn damaged_part_is_computed_again() {
    let files = Fixture::new();
    printed(&files.blockwise("whole"));
    let arguments = files.blockwise("small");
    let mut run = command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let shard = files.file("small.partial/block-000.safetensors");
    let began = Instant::now();
    while !files.file("small.partial/block-001.safetensors").is_file() && run.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "no block was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    if shard.is_file() {
        let mut bytes = fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, bytes).unwrap();
        let output = command(&arguments).output().unwrap();
        assert!(text(&output.stderr).contains("damaged"), "{}", text(&output.stderr));
    }
    assert!(lasting(&files.file("small")) == lasting(&files.file("whole")));
}

#[cfg(unix)]
#[test]
fn folder_that_cannot_be_written_is_one_error() {
    use std::os::unix::fs::PermissionsExt;
    let files = Fixture::new();
    let locked = files.file("locked");
    fs::create_dir(&locked).unwrap();
    let before = bytes_of(&files.file("bert"));
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere; a file in the place of the folder stops everybody.
    fs::write(files.file("file"), "").unwrap();
    let root = fs::write(locked.join("probe"), "").is_ok();
    for output in ["locked/small", "file/small"] {
        if output.starts_with("locked") && root {
            continue;
        }
        let found = error(&files.blockwise(output), 1);
        assert!(found.contains("small"), "{found}");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(bytes_of(&files.file("bert")), before);
    assert_eq!(fs::read_dir(&locked).unwrap().count(), usize::from(root));
}

#[cfg(unix)]
#[test]
fn full_disk_is_one_error_and_loses_nothing() {
    let files = Fixture::new();
    printed(&files.blockwise("whole"));
    // A limit on the size of files stands in for a full disk: first no shard fits, then only the whole model does not.
    for blocks in [1, 24] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let program = [env!("CARGO_BIN_EXE_burn-structured").to_string()].into_iter().chain(files.blockwise("small"));
        let limited =
            std::process::Command::new("sh").args(["-c", &script, "sh"]).args(program).arg("--quiet").output().unwrap();
        let message = text(&limited.stderr);
        assert_eq!(limited.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message}");
        assert!(message.contains("free some space"), "{message}");
        assert!(!files.file("small").exists());
    }
    printed(&files.blockwise("small"));
    assert!(lasting(&files.file("small")) == lasting(&files.file("whole")));
}
