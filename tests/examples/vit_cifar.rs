//! The example as a user runs it: its outputs, its errors, and what a kill leaves behind.

use crate::process::{assert_one_error, kill_after, text};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn example() -> Command {
    let mut command = crate::process::example("vit_cifar");
    command.args(["--offline", "--test-limit", "40"]);
    command
}

fn run(arguments: &[&str], out: &Path) -> Output {
    example().args(arguments).arg("--out").arg(out).output().expect("the example was built")
}

const QUICK: [&str; 8] = ["--dataset", "synthetic", "--limit", "60", "--batch-size", "20", "--epochs", "2"];

#[test]
fn learning_rate_is_searched_for_each_structure() {
    let folder = tempfile::tempdir().unwrap();
    let search = ["--compare", "dense,kronecker:r=1", "--lr-search", "1e-3,1e-5", "--search-epochs", "1"];
    let arguments = [&QUICK[..], &search].concat();
    let output = run(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for line in ["dense, lr 0.001: ", "dense, lr 0.00001: ", "kronecker:b=auto,r=1, lr 0.001: "] {
        assert!(printed.contains(line), "{printed}");
    }
    assert!(folder.path().join("dense/search/lr-0.00001/result.json").exists());

    // What is there already is not trained again.
    let before = std::fs::metadata(folder.path().join("dense/model.bpk")).unwrap().modified().unwrap();
    let output = run(&[&arguments[..], &["--resume"]].concat(), folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(folder.path().join("dense/model.bpk")).unwrap().modified().unwrap(), before);
    assert!(!text(&output.stderr).contains("training dense"), "{}", text(&output.stderr));

    // Nor is it replaced unasked.
    let output = run(&arguments, folder.path());
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("dense holds a finished run; replace it with --fresh"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(std::fs::metadata(folder.path().join("dense/model.bpk")).unwrap().modified().unwrap(), before);
}

#[test]
fn settings_without_effect_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let first_line = |arguments: &[&str]| {
        let output = run(&[&QUICK[..6], &["--epochs", "1", "--fresh"], arguments].concat(), folder.path());
        text(&output.stdout).lines().nth(1).map_or_else(|| text(&output.stderr), String::from)
    };
    assert!(first_line(&["--structure", "block-diagonal", "--blocks", "8"]).starts_with("block-diagonal:b=8:"));
    assert!(first_line(&["--structure", "low-rank:ratio=0.5"]).starts_with("low-rank:ratio=0.5:"));
    assert!(first_line(&["--structure", "low-rank", "--blocks", "8"]).contains("`low-rank` has no blocks"));
    assert!(first_line(&["--structure", "ss1", "--rank", "8"]).contains("`ss1` has no rank"));
}

#[test]
fn comparison_writes_table_json_and_plot() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&QUICK[..], &["--compare", "dense,blast:b=2,r=6,low-rank"]].concat();
    let output = run(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("dataset: synthetic (60 training, 40 test images), 2 epochs, seed 42"), "{table}");
    for structure in ["| dense ", "| blast:b=2,r=6 ", "| low-rank:ratio=0.33 "] {
        assert!(table.contains(structure), "{table}");
    }
    let json = std::fs::read_to_string(folder.path().join("comparison.json")).unwrap();
    assert!(json.contains("\"dataset\": \"synthetic\""), "{json}");
    let svg = std::fs::read_to_string(folder.path().join("comparison.svg")).unwrap();
    assert!(svg.contains("dataset: synthetic"), "{svg}");
    assert!(folder.path().join("low-rank-ratio-0.33/model.bpk").is_file());
    let progress = text(&output.stderr);
    assert!(progress.contains("epoch 2/2") && progress.contains("accuracy"), "{progress}");
}

#[test]
fn mixer_trains_resumes_and_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        [&QUICK[..], &["--model", "mixer", "--compare", "dense,monarch:b=2", "--drop-path", "0.1"]].concat();
    let output = run(&arguments, folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("seed 42, model mixer, device flex") && table.contains("| monarch:b=2"), "{table}");
    let json = std::fs::read_to_string(folder.path().join("comparison.json")).unwrap();
    assert!(json.contains("\"model\": \"mixer\""), "{json}");
    let result = folder.path().join("dense/result.json");
    assert!(result.is_file() && folder.path().join("dense/model.bpk").is_file());

    // A finished run is not one of another architecture.
    let resume = ["--compare", "dense", "--resume"];
    let other = run(&[&QUICK[..], &resume].concat(), folder.path());
    assert!(text(&other.stderr).contains("architecture was \"mixer\", now \"vit\""), "{}", text(&other.stderr));
}

#[test]
fn killed_run_resumes_after_its_last_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let long = ["--dataset", "synthetic", "--limit", "100", "--batch-size", "20", "--epochs", "4"];
    let child = example()
        .args(long)
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the example was built");
    // The three are written side by side, in any order.
    let checkpoint = ["model", "optim", "scheduler"].map(|name| out.join(format!("checkpoint/{name}-1.bpk")));
    kill_after(child, &checkpoint);

    let unfinished = run(&long, &out);
    assert!(!unfinished.status.success());
    assert!(text(&unfinished.stderr).contains("continue it with --resume"), "{}", text(&unfinished.stderr));

    let other = run(&[&long[..], &["--lr", "0.01", "--resume"]].concat(), &out);
    assert!(text(&other.stderr).contains("recipe.lr was 0.001, now 0.01"), "{}", text(&other.stderr));

    let resumed = run(&[&long[..], &["--resume"]].concat(), &out);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let progress = text(&resumed.stderr);
    assert!(!progress.contains("epoch 1/4") && progress.contains("epoch 4/4"), "{progress}");
    assert!(out.join("model.bpk").is_file() && out.join("result.json").is_file());
}

#[test]
fn folder_of_a_running_run_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(folder.path().join("run.lock")).unwrap();
    lock.lock().unwrap();
    for start in [&[][..], &["--resume"], &["--fresh"]] {
        let output = run(&[&QUICK[..], start].concat(), folder.path());
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains("another run is using"), "{error}");
    }
    assert!(!folder.path().join("settings.json").exists());
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("data_batch_1.bin"), [0; 100]).unwrap();
    std::fs::write(foreign.join("test_batch.bin"), [0; 100]).unwrap();
    let foreign = foreign.to_str().unwrap();
    for (arguments, message) in [
        (&["--structure", "blst"][..], "unknown structure `blst`; the structures are dense, blast, low-rank"),
        (&["--dataset", "synthetic", "--blocks", "5"], "cannot be cut into 5 equal blocks"),
        (&["--dataset", "synthetic", "--rank", "0"], "the rank is 0"),
        (&["--dataset", "synthetic", "--ratio", "1.5"], "the parameter ratio is 1.5"),
        (&["--dataset", "synthetic", "--device", "abacus"], "unknown device `abacus`; this build has flex"),
        (&["--dataset", "synthetic", "--limit", "20", "--batch-size", "0"], "batch size = 0"),
        (&["--dataset", "synthetic", "--limit", "20", "--lr", "7"], "lr = 7"),
        (&["--dataset", "synthetic", "--model", "mixer", "--preset", "vit-s"], "vit-s is no MLP-Mixer"),
        (&["--dataset", "synthetic", "--preset", "mixer-s"], "add --model mixer"),
        (&["--dataset", "folder"], "--dataset folder needs --data-dir"),
        (&["--data-dir", "/no/such/folder"], "/no/such/folder"),
        (&["--data-dir", foreign], "data_batch_1.bin"),
    ] {
        assert_one_error(&run(arguments, &out), message, &out);
    }
}
