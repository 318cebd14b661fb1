//! The table of click models of several structures trained alike, as `dlrm_clicks` writes it.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use burn_structured::train::comparison::short;
use serde::Deserialize;

/// What is used of `clicks.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Comparison {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    dataset: String,
    train_examples: usize,
    test_examples: usize,
    planted_auc: Option<f64>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    structure: String,
    auc: Option<f64>,
    cross_entropy: f64,
    top_params: usize,
    times: Times,
    training_seconds: f64,
}

/// Seconds of the components for a batch in inference.
#[derive(Clone, Debug, Deserialize)]
struct Times {
    batch_size: usize,
    embedding: f64,
    bottom: f64,
    interaction: f64,
    top: f64,
}

/// All that the page says of a comparison, in the order of the file.
pub fn section(file: &Recorded<Comparison>) -> String {
    let Comparison { origin, dataset, train_examples, test_examples, planted_auc, rows } = &file.results;
    let auc = |auc: Option<f64>| auc.map_or_else(String::new, |auc| format!("{auc:.4}"));
    let line = |row: &Row| {
        let Times { embedding, bottom, interaction, top, .. } = row.times;
        let mut cells = vec![format!("`{}`", short(&row.structure)), auc(row.auc), format!("{:.4}", row.cross_entropy)];
        cells.push(row.top_params.to_string());
        cells.extend(
            [embedding, bottom, interaction, top, embedding + bottom + interaction + top]
                .map(|seconds| format!("{:.0}", 1e6 * seconds)),
        );
        cells.push(format!("{:.0}", row.training_seconds));
        cells
    };
    let head = [
        "top MLP",
        "AUC",
        "cross-entropy",
        "parameters of the top MLP",
        "embedding",
        "bottom MLP",
        "interaction",
        "top MLP",
        "sum",
        "training, s",
    ];
    let batch = rows.first().map_or(0, |row| row.times.batch_size);
    format!(
        "\nClick models, {dataset}: {train_examples} training and {test_examples} held-out examples; the area under the ROC curve of the \
         model that generated them is {}. The times are microseconds for a batch of {batch} examples in inference.\n{}{}",
        auc(*planted_auc),
        origin.line(file),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}
