//! The figures of a comparison of click models.

use super::ModelCost;
use super::chart::{Better, Chart, FLOPS, Point};
use super::save::{ReportError, save};
use super::table::Table;
use crate::clicks::{ClickEvaluation, ClickRecipe, ComponentTimes};
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClickRow {
    /// The structure of the top MLP's layers.
    pub structure: Structure,
    /// How well the model ranks held-out examples.
    #[serde(flatten)]
    pub evaluation: ClickEvaluation,
    /// Parameters of the top MLP.
    pub top_params: usize,
    /// What one example costs.
    #[serde(flatten)]
    pub cost: ModelCost,
    /// The time of each component in inference.
    pub times: ComponentTimes,
    /// Seconds of the training.
    pub training_seconds: f64,
}

/// A comparison of click models on generated examples, and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClickReport {
    /// The name of the data, which says that it is generated.
    pub dataset: String,
    /// Training examples.
    pub train_examples: usize,
    /// Held-out examples.
    pub test_examples: usize,
    /// The area under the ROC curve of the model that generated the held-out examples, which no model surpasses but by chance.
    pub planted_auc: Option<f64>,
    /// The device the models ran on.
    pub device: String,
    /// What every structure was trained with.
    pub recipe: ClickRecipe,
    /// One row for each structure.
    pub rows: Vec<ClickRow>,
}

impl ClickReport {
    /// Writes `comparison.json` and the plot `comparison.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or there is nothing to draw.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        save(self, &self.chart(), folder, "comparison")
    }

    fn chart(&self) -> Chart<'_> {
        let point = |row: &ClickRow| Point {
            x: 100.0 * row.cost.relative_flops,
            y: row.evaluation.auc.unwrap_or(f64::NAN),
            deviation: None,
            name: row.structure.to_string(),
        };
        Chart {
            title: format!("dataset: {} - {} training examples", self.dataset, self.train_examples),
            x_label: FLOPS,
            y_label: "area under the ROC curve",
            better: Better::Higher,
            percent: false,
            points: self.rows.iter().map(point).collect(),
        }
    }
}

impl fmt::Display for ClickReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auc = |auc: Option<f64>| auc.map_or("-".into(), |auc| format!("{auc:.4}"));
        writeln!(
            f,
            "dataset: {} ({} training, {} test examples; AUC of the planted model {}), {} epochs, seed {}, device {}",
            self.dataset,
            self.train_examples,
            self.test_examples,
            auc(self.planted_auc),
            self.recipe.epochs,
            self.recipe.seed,
            self.device
        )?;
        if let Some(row) = self.rows.first() {
            writeln!(f, "times: microseconds for a batch of {} examples in inference", row.times.batch_size)?;
        }
        let titles = [
            "AUC",
            "cross-entropy",
            "top MLP params",
            "top MLP FLOPs rel.",
            "embedding µs",
            "bottom MLP µs",
            "interaction µs",
            "top MLP µs",
            "training s",
        ];
        let mut table = Table::new("structure", titles);
        for row in &self.rows {
            let mut cells = vec![row.structure.to_string(), auc(row.evaluation.auc)];
            cells.push(format!("{:.4}", row.evaluation.cross_entropy));
            cells.push(row.top_params.to_string());
            cells.push(format!("{:.0} %", 100.0 * row.cost.relative_flops));
            let times = [row.times.embedding, row.times.bottom, row.times.interaction, row.times.top];
            cells.extend(times.map(|seconds| format!("{:.0}", 1e6 * seconds)));
            cells.push(format!("{:.0}", row.training_seconds));
            table.push(cells);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ClickReport {
        let row = |structure: &str, auc, relative_flops| ClickRow {
            structure: structure.parse().unwrap(),
            evaluation: ClickEvaluation { auc: Some(auc), cross_entropy: 0.5 },
            top_params: 1234,
            cost: ModelCost {
                params: 1000,
                replaced_flops: 2_000_000,
                relative_flops,
                model_flops: 3_000_000,
                relative_model_flops: 0.5,
            },
            times: ComponentTimes { batch_size: 256, embedding: 1e-6, bottom: 2e-6, interaction: 3e-6, top: 4.4e-5 },
            training_seconds: 12.0,
        };
        ClickReport {
            dataset: "synthetic clicks".into(),
            train_examples: 10,
            test_examples: 5,
            planted_auc: Some(0.85),
            device: "flex".into(),
            recipe: ClickRecipe::default(),
            rows: vec![row("dense", 0.75, 1.0), row("blast:b=4,ratio=0.33", 0.625, 0.34)],
        }
    }

    #[test]
    fn table_names_its_data_and_aligns() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("dataset: synthetic clicks (10 training, 5 test examples; AUC"), "{text}");
        assert!(lines[2..].iter().all(|line| line.chars().count() == lines[2].chars().count()), "{text}");
        for cell in [" 0.7500 ", " 0.6250 ", " 1234 ", " 34 % ", " 44 "] {
            assert!(text.contains(cell), "{cell}: {text}");
        }
    }

    #[test]
    fn json_round_trips_with_flat_rows() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["rows"][1]["auc"], &json["dataset"]), (&0.625.into(), &"synthetic clicks".into()));
        assert_eq!(serde_json::from_value::<ClickReport>(json).unwrap(), report());
        assert!(report().chart().to_svg().unwrap().contains("dataset: synthetic clicks"));
    }
}
