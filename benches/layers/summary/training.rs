//! The table of a training comparison, as `comparison.json` of the harness has it.

use super::files::Recorded;
use super::{source, table};
use burn_structured::train::comparison::{Better, Chart, FLOPS, Point};
use serde::Deserialize;

/// What is used of `comparison.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Comparison {
    dataset: String,
    train_images: usize,
    test_images: usize,
    recipe: Recipe,
    #[serde(default)]
    program: String,
    #[serde(default)]
    measured: String,
    #[serde(default)]
    command: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Recipe {
    epochs: usize,
    #[serde(default)]
    factor_rates: f64,
    seed: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    structure: String,
    lr: Option<f64>,
    test_accuracy: f64,
    params: usize,
    relative_flops: f64,
}

/// The file of [`chart`].
pub const PLOT: &str = "accuracy-against-flops.svg";

/// The accuracy of every structure against its FLOPs.
pub fn chart(comparison: &Comparison) -> Chart<'_> {
    let point = |row: &Row| Point {
        x: 100.0 * row.relative_flops,
        y: 100.0 * row.test_accuracy,
        deviation: None,
        name: row.structure.clone(),
    };
    let Comparison { dataset, train_images, recipe, .. } = comparison;
    Chart {
        title: format!("{dataset}, {train_images} training images, {} epochs, one run each", recipe.epochs),
        x_label: FLOPS,
        y_label: "test accuracy",
        better: Better::Higher,
        percent: true,
        points: comparison.rows.iter().map(point).collect(),
    }
}

/// All that the page says of a comparison, the most accurate first.
pub fn section(file: &Recorded<Comparison>) -> String {
    let comparison = &file.results;
    let mut rows: Vec<&Row> = comparison.rows.iter().collect();
    rows.sort_by(|a, b| b.test_accuracy.total_cmp(&a.test_accuracy));
    let line = |row: &&Row| {
        vec![
            format!("`{}`", row.structure),
            row.lr.map_or_else(String::new, |lr| format!("{lr:e}")),
            format!("{:.2} %", 100.0 * row.test_accuracy),
            row.params.to_string(),
            format!("{:.0} %", 100.0 * row.relative_flops),
        ]
    };
    let head = ["structure", "learning rate", "test accuracy", "parameters", "FLOPs of the replaced layers"];
    format!(
        "\n{}, {} training and {} test images, {} epochs, factor rates {}, seed {}, one run each; the standard error of an accuracy is {:.1} points. [Plot]({PLOT}).\n{}{}",
        comparison.dataset,
        comparison.train_images,
        comparison.test_images,
        comparison.recipe.epochs,
        comparison.recipe.factor_rates,
        comparison.recipe.seed,
        // Of a proportion of one half, the largest.
        100.0 * 0.5 / (comparison.test_images as f64).sqrt(),
        source(file, &comparison.program, &comparison.measured, &comparison.command),
        table(&head.map(String::from), &rows.iter().map(line).collect::<Vec<_>>())
    )
}
