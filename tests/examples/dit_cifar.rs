//! The diffusion example as a user runs it.

use crate::process::{assert_one_error, example, printed, text};
use std::path::Path;
use std::process::Output;

const QUICK: [&str; 15] = [
    "--offline",
    "--dataset",
    "synthetic",
    "--limit",
    "40",
    "--test-limit",
    "20",
    "--batch-size",
    "20",
    "--samples",
    "1",
    "--sample-steps",
    "2",
    "--calibration",
    "20",
];

fn run(arguments: &[&str], out: &Path) -> Output {
    let mut command = example("dit_cifar");
    // A model that is read is not trained.
    let steps: &[&str] = if arguments.contains(&"--init") { &[] } else { &["--steps", "3"] };
    command.args(QUICK).args(steps).args(arguments).arg("--out").arg(out).output().expect("the example was built")
}

/// Width and height of a PNG.
fn size(path: &Path) -> [u32; 2] {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{} is no PNG", path.display());
    [16, 20].map(|at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()))
}

#[test]
fn dense_model_is_trained_sampled_compressed_and_retrained() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("dense");
    let output = printed(&run(&["--compress", "low-rank:ratio=0.5", "--retrain", "2"], &out));
    for part in ["dataset: synthetic (40 training, 20 test images", "| not compressed ", "| low-rank:ratio=0.5 "] {
        assert!(output.contains(part), "{output}");
    }
    for file in ["model.bpk", "settings.json", "result.json", "comparison.svg", "low-rank-ratio-0.5/model.bpk"] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }
    let json = std::fs::read_to_string(out.join("comparison.json")).unwrap();
    assert!(json.contains("\"dataset\": \"synthetic\"") && json.contains("\"retrained\": {"), "{json}");
    // Ten classes of 32 pixels and a gap of two; three such grids with gaps of twelve.
    assert_eq!(size(&out.join("samples.png")), [340, 34]);
    assert_eq!(size(&out.join("comparison.png")), [3 * 340 + 2 * 12, 34]);

    // The same noise gives the same images of the same weights.
    let again = folder.path().join("again");
    printed(&run(&["--init", out.to_str().unwrap()], &again));
    let samples = |out: &Path| std::fs::read(out.join("samples.png")).unwrap();
    assert_eq!(samples(&out), samples(&again));
    assert!(!again.join("model.bpk").exists());
    // Earlier runs are kept.
    for arguments in [&[][..], &["--compress", "low-rank:ratio=0.5"]] {
        let output = run(arguments, &out);
        assert!(
            text(&output.stderr).contains("holds a finished run; replace it with --fresh"),
            "{}",
            text(&output.stderr)
        );
    }
    // A compressed model is a run like any other.
    let small = out.join("low-rank-ratio-0.5");
    printed(&run(&["--init", small.to_str().unwrap()], &folder.path().join("small")));
}

#[test]
fn distance_is_on_the_features_of_a_trained_transformer() {
    let folder = tempfile::tempdir().unwrap();
    let vit = folder.path().join("vit");
    let mut command = example("vit_cifar");
    command.args(["--offline", "--dataset", "synthetic", "--limit", "20", "--test-limit", "20", "--epochs", "1"]);
    printed(&command.args(["--batch-size", "20", "--warmup", "0"]).arg("--out").arg(&vit).output().unwrap());
    let out = folder.path().join("dit");
    let frechet = ["--features-from", vit.to_str().unwrap(), "--frechet-images", "4"];
    let output = printed(&run(&frechet, &out));
    assert!(output.contains("Fréchet distance on ViT features "), "{output}");

    let output = run(&["--features-from", "/no/such/run"], &folder.path().join("none"));
    assert_one_error(&output, "/no/such/run/settings.json", &folder.path().join("none"));
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (arguments, message) in [
        (&["--structure", "blst"][..], "unknown structure `blst`"),
        (&["--compress", "dense,monarch:b=5"], "cannot be cut into 5"),
        (&["--retrain", "3"], "--compress"),
        (&["--init", "/no/such/run"], "/no/such/run/settings.json"),
        (&["--lr", "7"], "lr = 7"),
        (&["--device", "abacus"], "unknown device `abacus`"),
        (&["--class-dropout", "2"], "class dropout = 2"),
        (&["--class-dropout", "0"], "give --guidance 1"),
    ] {
        assert_one_error(&run(arguments, &out), message, &out);
    }
    assert!(text(&example("dit_cifar").arg("--help").output().unwrap().stdout).contains("--features-from"));
}
