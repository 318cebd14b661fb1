//! The figures of a comparison of image classifiers.

use super::ModelCost;
use super::chart::{Better, Chart, FLOPS, Point};
use super::save::{ReportError, save};
use super::table::Table;
use crate::vision::{Recipe, RunResult};
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The structure of the replaced layers.
    pub structure: Structure,
    /// The peak learning rate it was trained with.
    pub lr: f64,
    /// Share of the test images classified correctly.
    pub test_accuracy: f64,
    /// What one image costs.
    #[serde(flatten)]
    pub cost: ModelCost,
    /// Images a second in training; `None` if this process trained no complete epoch.
    pub training_images_per_second: Option<f64>,
    /// Images a second in inference.
    pub inference_images_per_second: f64,
}

impl ImageRow {
    /// The figures of a finished run.
    pub fn new(structure: Structure, lr: f64, cost: impl Into<ModelCost>, result: RunResult) -> Self {
        Self {
            structure,
            lr,
            test_accuracy: result.test.accuracy,
            cost: cost.into(),
            training_images_per_second: result.training_images_per_second,
            inference_images_per_second: result.test.images_per_second,
        }
    }
}

/// A comparison of image classifiers and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    /// The architecture of the models; empty in reports that do not say.
    #[serde(default)]
    pub model: String,
    /// The name of the data; `synthetic` for the built-in set.
    pub dataset: String,
    /// Training images.
    pub train_images: usize,
    /// Test images.
    pub test_images: usize,
    /// The device the models ran on.
    pub device: String,
    /// What every structure was trained with, the learning rate aside.
    pub recipe: Recipe,
    /// One row for each structure.
    pub rows: Vec<ImageRow>,
}

impl ImageReport {
    /// Writes `comparison.json` and the plot `comparison.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or there is nothing to draw.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        save(self, &self.chart(), folder, "comparison")
    }

    fn chart(&self) -> Chart<'_> {
        let point = |row: &ImageRow| Point {
            x: 100.0 * row.cost.relative_flops,
            y: 100.0 * row.test_accuracy,
            deviation: None,
            name: row.structure.to_string(),
        };
        Chart {
            title: format!(
                "{}, dataset: {} - {} training images, {} epochs, seed {}",
                self.model, self.dataset, self.train_images, self.recipe.epochs, self.recipe.seed
            ),
            x_label: FLOPS,
            y_label: "test accuracy",
            better: Better::Higher,
            percent: true,
            points: self.rows.iter().map(point).collect(),
        }
    }
}

impl fmt::Display for ImageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "dataset: {} ({} training, {} test images), {} epochs, seed {}, model {}, device {}",
            self.dataset,
            self.train_images,
            self.test_images,
            self.recipe.epochs,
            self.recipe.seed,
            self.model,
            self.device
        )?;
        let titles = ["lr", "test acc."].map(String::from).into_iter();
        let speeds = ["train img/s", "infer img/s"].map(String::from);
        let mut table = Table::new("structure", titles.chain(ModelCost::titles("image")).chain(speeds));
        for row in &self.rows {
            let mut cells = vec![row.structure.to_string(), row.lr.to_string()];
            cells.push(format!("{:.2} %", 100.0 * row.test_accuracy));
            cells.extend(row.cost.cells());
            cells.push(row.training_images_per_second.map_or("-".into(), |rate| format!("{rate:.0}")));
            cells.push(format!("{:.0}", row.inference_images_per_second));
            table.push(cells);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ImageReport {
        let row = |structure: &str, test_accuracy, relative_flops| ImageRow {
            structure: structure.parse().unwrap(),
            lr: 0.001,
            test_accuracy,
            cost: ModelCost {
                params: 1000,
                replaced_flops: 2_000_000,
                relative_flops,
                model_flops: 3_000_000,
                relative_model_flops: 0.5,
            },
            training_images_per_second: None,
            inference_images_per_second: 99.5,
        };
        ImageReport {
            model: "vit".into(),
            dataset: "synthetic".into(),
            train_images: 10,
            test_images: 5,
            device: "flex".into(),
            recipe: Recipe::default(),
            rows: vec![row("dense", 0.5, 1.0), row("blast:b=4,ratio=0.33", 0.6, 0.34)],
        }
    }

    #[test]
    fn table_names_its_settings_and_aligns() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("dataset: synthetic (10 training, 5 test images), 20 epochs"), "{text}");
        assert_eq!(lines.len(), 5);
        assert!(lines[1..].iter().all(|line| line.chars().count() == lines[1].chars().count()), "{text}");
        assert!(lines[4].contains("60.00 %") && lines[4].contains("34 %"), "{text}");
    }

    #[test]
    fn plot_shows_per_cent_of_the_named_data() {
        let svg = report().chart().to_svg().unwrap();
        for word in ["dataset: synthetic", "60.0 %  blast:b=4,ratio=0.33", "test accuracy"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn json_round_trips_with_flat_rows() {
        let report = report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][1]["relative_flops"], 0.34);
        assert_eq!(serde_json::from_value::<ImageReport>(json).unwrap(), report);
    }
}
