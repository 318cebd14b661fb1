//! The click example as a user runs it.

use crate::process::{assert_one_error, example, printed};
use std::path::Path;
use std::process::Output;

const QUICK: [&str; 8] = ["--examples", "300", "--test-examples", "200", "--batch-size", "100", "--timing-batch", "50"];

fn run(arguments: &[&str], out: &Path) -> Output {
    example("dlrm_clicks").args(QUICK).args(arguments).arg("--out").arg(out).output().expect("the example was built")
}

#[test]
fn comparison_writes_table_json_and_plot() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--top", "64,32", "--compare", "dense,blast:b=4,r=4,low-rank"];
    let table = printed(&run(&arguments, folder.path()));
    for part in [
        "dataset: synthetic clicks (300 training, 200 test examples; AUC of the planted model 0.",
        "times: microseconds for a batch of 50 examples",
        "| dense ",
        "| blast:b=4,r=4 ",
        "| low-rank:ratio=0.33 ",
    ] {
        assert!(table.contains(part), "{table}");
    }
    let json = std::fs::read_to_string(folder.path().join("comparison.json")).unwrap();
    for part in ["\"dataset\": \"synthetic clicks\"", "\"auc\": 0.", "\"top_params\": ", "\"interaction\": "] {
        assert!(json.contains(part), "{json}");
    }
    let svg = std::fs::read_to_string(folder.path().join("comparison.svg")).unwrap();
    assert!(svg.contains("synthetic clicks"), "{svg}");
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (arguments, message) in [
        (&["--compare", "dense,blst"][..], "unknown structure `blst`"),
        (&["--compare", "blast:b=7,r=2"], "cannot be cut into 7"),
        (&["--top", "64,0"], "top = [64, 0]"),
        (&["--lr", "7"], "lr = 7"),
        (&["--device", "abacus"], "unknown device `abacus`"),
        (&["--factor-rates", "2"], "factor rates = 2"),
    ] {
        assert_one_error(&run(arguments, &out), message, &out);
    }
}
