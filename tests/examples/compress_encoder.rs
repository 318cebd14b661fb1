//! The example as a user runs it, on a tiny encoder.

use crate::models::{write_bert, write_pairs, write_text};
use crate::process::{assert_one_error, example, printed};
use std::fs;
use std::path::Path;
use std::process::Output;

fn compress(folder: &Path, arguments: &[&str]) -> Output {
    let path = |name: &str| folder.join(name).display().to_string();
    let (model, text, out) = (path("model"), path("lines.txt"), path("small"));
    let files = ["--model", &model, "--text", &text, "--out", &out];
    example("compress_encoder").args(files).args(arguments).output().expect("the example was built")
}

#[test]
fn encoder_is_compressed_saved_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    write_bert(&folder.path().join("model"));
    write_text(&folder.path().join("lines.txt"), 48);
    let pairs = folder.path().join("pairs.csv");
    write_pairs(&pairs, 12);
    let settings = ["--structure", "low-rank", "--structure", "blast:b=2", "--target", "0.6"];
    let training = ["--refine-steps", "4", "--distill-steps", "4", "--sts", pairs.to_str().unwrap()];
    let stdout = printed(&compress(folder.path(), &[&settings[..], &training[..]].concat()));
    for expected in [
        "pattern = '^encoder\\.layer\\.1\\.output\\.dense$'",
        "block 1: relative error of its output 0.",
        "% of the parameters of the linear layers",
        "Spearman's correlation on ",
    ] {
        assert!(stdout.contains(expected), "{expected} is not in:\n{stdout}");
    }
    let small = folder.path().join("small");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "report.json"] {
        assert!(small.join(file).is_file(), "{file}");
    }
    let size = |folder: &Path| fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(size(&small) < size(&folder.path().join("model")));
    assert!(!folder.path().join("small.partial").exists());
}

#[test]
fn unusable_input_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small");
    assert_one_error(&compress(folder.path(), &[]), "cannot read ", &out);
    write_bert(&folder.path().join("model"));
    assert_one_error(&compress(folder.path(), &[]), "lines.txt: ", &out);
    write_text(&folder.path().join("lines.txt"), 1);
    assert_one_error(&compress(folder.path(), &[]), "lines.txt: two lines of text are needed at least", &out);
    write_text(&folder.path().join("lines.txt"), 20);
    assert_one_error(&compress(folder.path(), &["--structure", "blsat"]), "unknown structure `blsat`", &out);
}
