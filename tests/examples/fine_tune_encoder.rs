//! The example as a user runs it, on a tiny encoder.

use crate::models::{write_bert, write_pairs};
use crate::process::{assert_one_error, example, printed};
use std::fs;
use std::path::Path;
use std::process::Output;

const QUICK: [&str; 10] =
    ["--epochs", "4", "--batch-size", "8", "--lr", "0.02", "--latency-seconds", "0.01", "--latency-batches", "1,4"];

fn tune(folder: &Path, arguments: &[&str]) -> Output {
    let path = |name: &str| folder.join(name).display().to_string();
    let (model, pairs, out) = (path("model"), path("pairs.csv"), path("tuned"));
    let files = ["--model", &model, "--sts", &pairs, "--out", &out];
    example("fine_tune_encoder").args(files).args(QUICK).args(arguments).output().expect("the example was built")
}

#[test]
fn structures_are_tuned_compared_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    write_bert(&folder.path().join("model"));
    write_pairs(&folder.path().join("pairs.csv"), 40);
    let arguments = ["--compare", "dense,blast:b=2,ss1:c=2,k=4,n=4", "--keep-dense", "3", "--seeds", "2"];
    let stdout = printed(&tune(folder.path(), &arguments));
    for expected in [
        "blast:b=2,ratio=0.5: ",
        "relative error of a layer 0.",
        "; dense: encoder.layer.",
        "ss1:c=2,k=4,n=4,hash=additive: Spearman's correlation × 100 is ",
        "seed 1",
        "model: model; pairs: pairs.csv (",
        "| blast:b=2,ratio=0.5 ",
    ] {
        assert!(stdout.contains(expected), "{expected} is not in:\n{stdout}");
    }
    let out = folder.path().join("tuned");
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("fine-tuning.json")).unwrap()).unwrap();
    assert!(report["program"].as_str().unwrap().starts_with("burn-structured "), "{report}");
    assert!(report["command"].as_str().unwrap().starts_with("cargo run --release --example fine_tune_encoder"));
    assert_eq!(report["train_pairs"].as_u64().unwrap() + report["test_pairs"].as_u64().unwrap(), 40);
    let rows = report["rows"].as_array().unwrap();
    for (row, (structure, dense)) in rows.iter().zip([("dense", 12), ("blast:b=2", 3), ("ss1:c=2,k=4,n=4", 3)]) {
        assert!(row["structure"].as_str().unwrap().starts_with(structure), "{row}");
        assert_eq!(row["dense_layers"].as_array().unwrap().len(), dense, "{row}");
        assert_eq!(row["params_ratio"].as_f64().unwrap() < 1.0, structure != "dense", "{row}");
        assert_eq!(row["runs"].as_array().unwrap().len(), 2, "{row}");
        let losses = |run: usize| -> Vec<f64> {
            let epochs = row["runs"][run]["epochs"].as_array().unwrap();
            epochs.iter().map(|epoch| epoch["loss"].as_f64().unwrap()).collect()
        };
        assert_eq!(losses(0).len(), 4, "{row}");
        assert!(losses(0)[3] < losses(0)[0] && losses(1)[3] < losses(1)[0], "{row}");
        // The seed decides the order.
        assert_ne!(losses(0), losses(1), "{row}");
        let sizes: Vec<_> = row["latencies"].as_array().unwrap().iter().map(|time| time["sentences"].clone()).collect();
        assert_eq!(sizes, [1, 4], "{row}");
    }
    for plot in ["fine-tuning.svg", "latency.svg"] {
        assert!(fs::read_to_string(out.join(plot)).unwrap().contains("blast:b=2"), "{plot}");
    }
    // A saved model is a model: it is scored before it is tuned again as it was after the last time.
    let again = folder.path().join("again");
    let dense = out.join("dense");
    let output = example("fine_tune_encoder")
        .args(["--model", dense.to_str().unwrap(), "--sts", folder.path().join("pairs.csv").to_str().unwrap()])
        .args(QUICK)
        .args(["--compare", "dense", "--out", again.to_str().unwrap()])
        .output()
        .expect("the example was built");
    printed(&output);
    let again: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(again.join("fine-tuning.json")).unwrap()).unwrap();
    assert_eq!(again["rows"][0]["before"], rows[0]["runs"][0]["spearman"]);
    // Compressed models load, too, and are told from dense ones.
    let compressed = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let compressed = compressed.filter(|path| path.is_dir() && *path != dense).collect::<Vec<_>>();
    assert_eq!(compressed.len(), 2);
    for path in compressed {
        let output = example("fine_tune_encoder")
            .args(["--model", path.to_str().unwrap(), "--sts", folder.path().join("pairs.csv").to_str().unwrap()])
            .args(["--out", folder.path().join("never").to_str().unwrap()])
            .output()
            .expect("the example was built");
        assert_one_error(&output, "is not dense in --model; give the dense model", &folder.path().join("never"));
    }
}

#[test]
fn parameters_decide_the_dense_layers() {
    let folder = tempfile::tempdir().unwrap();
    write_bert(&folder.path().join("model"));
    write_pairs(&folder.path().join("pairs.csv"), 30);
    printed(&tune(folder.path(), &["--compare", "low-rank:ratio=0.4", "--params", "0.7"]));
    let json = fs::read_to_string(folder.path().join("tuned/fine-tuning.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let row = &report["rows"][0];
    assert!(row["params_ratio"].as_f64().unwrap() <= 0.7, "{row}");
    assert!(!row["dense_layers"].as_array().unwrap().is_empty(), "{row}");
}

#[test]
fn unusable_input_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tuned");
    let fails = |arguments: &[&str], message: &str| assert_one_error(&tune(folder.path(), arguments), message, &out);
    fails(&[], "cannot read ");
    write_bert(&folder.path().join("model"));
    fails(&[], "pairs.csv: ");
    write_pairs(&folder.path().join("pairs.csv"), 1);
    fails(&[], "1 sentence pairs cannot be split");
    write_pairs(&folder.path().join("pairs.csv"), 40);
    for (arguments, message) in [
        (&["--compare", "dense,blst"][..], "unknown structure `blst`"),
        (
            &["--compare", "dense,blast:b=7,r=2"],
            "blast:b=7,r=2 does not fit encoder.layer.0.attention.self.query (16 → 16)",
        ),
        (&["--compare", "dense,dense"], "dense is named twice"),
        (&["--keep-dense", "12"], "--keep-dense 12 leaves none of the 12 layers to compress"),
        (&["--params", "1.5"], "--params 1.5 is no share"),
        (&["--compare", "low-rank:ratio=0.5", "--params", "0.1"], "a budget of "),
        (&["--train-share", "1"], "a share of 1 "),
        (&["--warmup", "2"], "warm-up = 2"),
        (&["--seeds", "0"], "--seeds = 0"),
        (&["--latency-batches", "0"], "--latency-batches = 0"),
        (&["--device", "abacus"], "unknown device `abacus`"),
    ] {
        fails(arguments, message);
    }
}
