//! The short examples, which take no arguments.

use crate::process::{example, printed};

fn run(name: &str) -> String {
    printed(&example(name).output().expect("the example was built"))
}

/// The first number behind each occurrence of `label`.
fn numbers(text: &str, label: &str) -> Vec<f64> {
    let behind = text.split(label).skip(1).filter_map(|rest| rest.split_whitespace().next());
    behind.map(|number| number.trim_end_matches(['%', ',']).parse().expect("a number")).collect()
}

#[test]
fn first_layer_equals_the_matrix_it_stands_for() {
    let text = run("first_layer");
    assert!(text.starts_with("dense ") && text.contains("blast:b=4,ratio=0.5 ") && text.contains("100.0 %"), "{text}");
    // Sums of 768 products of order 1, in f32.
    let differences = numbers(&text, "matrix by ");
    assert!(differences.len() == 6 && differences.iter().all(|difference| *difference < 1e-4), "{text}");
}

#[test]
fn compress_linear_comes_nearest_with_blast() {
    let text = run("compress_linear");
    let errors = |structure: &str| -> Vec<f64> {
        let line = text.lines().find(|line| line.starts_with(structure)).expect("a line for the structure");
        line.split_whitespace().skip(1).map(|error| error.parse().expect("an error")).collect()
    };
    let (low_rank, blast) = (errors("low-rank"), errors("blast"));
    assert_eq!(low_rank[0], low_rank[1], "the truncated decomposition is optimal already: {text}");
    assert!(blast[1] <= blast[0] && blast[0] <= low_rank[0] && blast[0] > 0.0, "{text}");
}

#[test]
fn fine_tune_lowers_the_error_of_the_output() {
    let text = run("fine_tune");
    let errors = numbers(&text, "of the output ");
    assert!(errors.len() == 5 && errors[4] < 0.5 * errors[0], "{text}");
}
