//! The table of a training comparison, as `comparison.json` of the harness has it.

use super::files::Recorded;
use super::{plots, source, table};
use burn_structured::train::comparison::{Better, Chart, FLOPS, Point};
use serde::Deserialize;

/// What is used of `comparison.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Comparison {
    #[serde(default)]
    model: String,
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
    inference_images_per_second: f64,
}

/// What the file has, in words.
pub fn words(comparison: &Comparison) -> String {
    let model = if comparison.model.is_empty() { "vit" } else { &comparison.model };
    format!("image classifiers ({model}) of {} structures trained alike", comparison.rows.len())
}

/// The files of [`charts`].
pub const PLOTS: [&str; 2] = ["accuracy-against-flops.svg", "accuracy-against-time.svg"];

/// The accuracy of every structure against its FLOPs, and against the time of inference.
pub fn charts(comparison: &Comparison) -> Vec<(&'static str, Chart<'_>)> {
    let Comparison { dataset, train_images, recipe, rows, .. } = comparison;
    let dense = rows.iter().find(|row| row.structure == "dense").map(|row| row.inference_images_per_second);
    let chart = |x_label, x: &dyn Fn(&Row) -> Option<f64>| {
        let point = |row: &Row| {
            let (x, y) = (100.0 * x(row)?, 100.0 * row.test_accuracy);
            Some(Point { x, y, deviation: None, name: row.structure.clone() })
        };
        Chart {
            title: format!("{dataset}, {train_images} training images, {} epochs, one run each", recipe.epochs),
            x_label,
            y_label: "test accuracy",
            better: Better::Higher,
            percent: true,
            points: rows.iter().filter_map(point).collect(),
        }
    };
    let flops = chart(FLOPS, &|row| Some(row.relative_flops));
    let time =
        chart("time of an image in inference, % of dense", &|row| Some(dense? / row.inference_images_per_second));
    PLOTS.into_iter().zip([flops, time]).filter(|(_, chart)| !chart.points.is_empty()).collect()
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
            format!("{:.2}", 1000.0 / row.inference_images_per_second),
        ]
    };
    let head = [
        "structure",
        "learning rate",
        "test accuracy",
        "parameters",
        "FLOPs of the replaced layers",
        "ms for an image",
    ];
    let model = if comparison.model.is_empty() { String::new() } else { format!("Model: {}. ", comparison.model) };
    format!(
        "\n{model}{}, {} training and {} test images, {} epochs, factor rates {}, seed {}, one run each; the standard error of an accuracy is {:.1} points.{}\n{}{}",
        comparison.dataset,
        comparison.train_images,
        comparison.test_images,
        comparison.recipe.epochs,
        comparison.recipe.factor_rates,
        comparison.recipe.seed,
        // Of a proportion of one half, the largest.
        100.0 * 0.5 / (comparison.test_images as f64).sqrt(),
        plots(&charts(comparison)),
        source(file, &comparison.program, &comparison.measured, &comparison.command),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}
