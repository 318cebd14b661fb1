//! The figures of a comparison.

use super::{ReportError, plot};
use crate::files;
use crate::training::{Recipe, RunResult};
use burn_structured_models::vit::ViTCost;
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The structure of the replaced layers.
    pub structure: Structure,
    /// The peak learning rate it was trained with.
    pub lr: f64,
    /// Share of the test images classified correctly.
    pub test_accuracy: f64,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of the replaced linear layers for one image.
    pub replaced_flops: usize,
    /// [`replaced_flops`](Self::replaced_flops) relative to dense layers.
    pub relative_flops: f64,
    /// FLOPs of the whole model for one image.
    pub model_flops: usize,
    /// [`model_flops`](Self::model_flops) relative to the dense model.
    pub relative_model_flops: f64,
    /// Images a second in training; `None` if this process trained no complete epoch.
    pub training_images_per_second: Option<f64>,
    /// Images a second in inference.
    pub inference_images_per_second: f64,
}

impl Row {
    /// The figures of a finished run.
    pub fn new(structure: Structure, lr: f64, cost: ViTCost, result: RunResult) -> Self {
        Self {
            structure,
            lr,
            test_accuracy: result.test.accuracy,
            params: cost.params,
            replaced_flops: cost.replaced_flops(),
            relative_flops: cost.replaced.flops_ratio(),
            model_flops: cost.model_flops(),
            relative_model_flops: cost.model_flops_ratio(),
            training_images_per_second: result.training_images_per_second,
            inference_images_per_second: result.test.images_per_second,
        }
    }
}

/// A comparison and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
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
    pub rows: Vec<Row>,
}

impl Report {
    /// Writes `comparison.json` and the [`plot`] `comparison.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or there is nothing to draw.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        let [json, svg] = ["comparison.json", "comparison.svg"].map(|name| folder.join(name));
        let text = serde_json::to_string_pretty(self).map_err(|error| ReportError::new(&json, error))?;
        files::replace(&json, &(text + "\n")).map_err(|error| ReportError::new(&json, error))?;
        plot(self, &svg)?;
        Ok([json, svg])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.structure.to_string().len()).max().unwrap_or(0).max(9);
        writeln!(
            f,
            "dataset: {} ({} training, {} test images), {} epochs, seed {}, device {}",
            self.dataset, self.train_images, self.test_images, self.recipe.epochs, self.recipe.seed, self.device
        )?;
        writeln!(
            f,
            "| {:width$} |      lr | test acc. |    params | linear FLOPs/image |  rel. | model FLOPs/image |  rel. | train img/s | infer img/s |",
            "structure"
        )?;
        writeln!(
            f,
            "|{:-<1$}|--------:|----------:|----------:|-------------------:|------:|------------------:|------:|------------:|------------:|",
            "",
            width + 2
        )?;
        for row in &self.rows {
            let training = row.training_images_per_second.map_or("-".to_string(), |rate| format!("{rate:.0}"));
            writeln!(
                f,
                "| {:width$} | {:>7} | {:7.2} % | {:9} | {:16.2} M | {:3.0} % | {:15.2} M | {:3.0} % | {training:>11} | {:11.0} |",
                row.structure.to_string(),
                row.lr,
                100.0 * row.test_accuracy,
                row.params,
                row.replaced_flops as f64 / 1e6,
                100.0 * row.relative_flops,
                row.model_flops as f64 / 1e6,
                100.0 * row.relative_model_flops,
                row.inference_images_per_second,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn report() -> Report {
        let row = |structure: &str, test_accuracy, relative_flops| Row {
            structure: structure.parse().unwrap(),
            lr: 0.001,
            test_accuracy,
            params: 1000,
            replaced_flops: 2_000_000,
            relative_flops,
            model_flops: 3_000_000,
            relative_model_flops: 0.5,
            training_images_per_second: None,
            inference_images_per_second: 99.5,
        };
        Report {
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
    fn json_round_trips() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
