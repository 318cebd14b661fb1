//! The experiment with inner products as a user runs it.

use crate::process::{assert_one_error, example, printed};
use std::path::Path;
use std::process::Output;

fn run(arguments: &[&str], out: &Path) -> Output {
    example("inner_products").args(arguments).arg("--out").arg(out).output().expect("the example was built")
}

#[test]
fn errors_are_those_of_the_formula() {
    let folder = tempfile::tempdir().unwrap();
    let table = printed(&run(&["--features", "512", "--seeds", "8"], folder.path()));
    assert!(table.contains("| normal | quantized | 1 | 8 | 4.0 |"), "{table}");
    let json = std::fs::read_to_string(folder.path().join("products.json")).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2 * (6 + 5 * 2));
    for row in rows {
        let [measured, expected] = ["measured", "expected"].map(|name| row[name].as_f64().unwrap());
        // The mean of 8 × 64 squared errors; the rounding error of few bits is not uniform.
        if row["method"] != "quantized" {
            assert!((0.7..1.4).contains(&(measured / expected)), "{row}");
        }
    }
    // Each halving of the stored weights about doubles the error.
    let projected: Vec<f64> = rows
        .iter()
        .filter(|row| row["weights"] == "normal" && row["method"] == "projected")
        .map(|row| row["measured"].as_f64().unwrap())
        .collect();
    assert!(projected.is_sorted() && projected[4] > 8.0 * projected[0], "{projected:?}");
    assert!(std::fs::read_to_string(folder.path().join("products.svg")).unwrap().contains("heavy-tailed weights"));
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (arguments, message) in [
        (["--features", "100"], "--features 100: give a multiple of 512"),
        (["--pairs", "0"], "at least 1 pair and 1 seed"),
        (["--correlation", "2"], "--correlation 2: give a number from -1 to 1"),
    ] {
        assert_one_error(&run(&arguments, &out), message, &out);
    }
}
