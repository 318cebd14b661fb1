//! The figures of a dense diffusion transformer that was compressed and retrained.

use super::ModelCost;
use super::chart::{Better, Chart, FLOPS, Point};
use super::save::{ReportError, save};
use super::table::Table;
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// What is measured of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionQuality {
    /// Mean squared error of the predicted noise in the test images.
    pub noise_error: f64,
    /// Fréchet distance of sampled images to the test images, on the features of a vision transformer of this repository; not FID.
    pub frechet_distance_on_vit_features: Option<f64>,
}

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionRow {
    /// The structure of the compressed layers.
    pub structure: Structure,
    /// What one evaluation of one image costs.
    #[serde(flatten)]
    pub cost: ModelCost,
    /// Mean relative error of the compressed layers, on the inputs of the calibration.
    pub layer_error: f64,
    /// The compressed model.
    pub compressed: DiffusionQuality,
    /// The retrained model; `None` without retraining.
    pub retrained: Option<DiffusionQuality>,
    /// Steps of the retraining.
    pub retraining_steps: usize,
    /// Seconds of the retraining.
    pub retraining_seconds: f64,
}

impl DiffusionRow {
    /// The last model.
    fn last(&self) -> DiffusionQuality {
        self.retrained.unwrap_or(self.compressed)
    }
}

/// A dense diffusion transformer, compressed by several structures, and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionReport {
    /// The dense model.
    pub model: String,
    /// The name of the data; `synthetic` for the built-in set.
    pub dataset: String,
    /// Test images.
    pub test_images: usize,
    /// Sampled images of a Fréchet distance; 0 without one.
    pub frechet_images: usize,
    /// The device of the models.
    pub device: String,
    /// The dense model's figures.
    pub dense: DiffusionQuality,
    /// What one evaluation of one image costs in the dense model.
    pub dense_cost: ModelCost,
    /// One row for each structure.
    pub rows: Vec<DiffusionRow>,
}

impl DiffusionReport {
    /// Writes `comparison.json` and the plot `comparison.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or a figure is not finite.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        save(self, &self.chart(), folder, "comparison")
    }

    fn chart(&self) -> Chart<'_> {
        let point = |cost: &ModelCost, quality: DiffusionQuality, name: String| Point {
            x: 100.0 * cost.relative_flops,
            y: quality.noise_error,
            deviation: None,
            name,
        };
        let rows = self.rows.iter().map(|row| point(&row.cost, row.last(), row.structure.to_string()));
        Chart {
            title: format!("{}, dataset: {}", self.model, self.dataset),
            x_label: FLOPS,
            y_label: "noise error",
            better: Better::Lower,
            percent: false,
            points: std::iter::once(point(&self.dense_cost, self.dense, "not compressed".into())).chain(rows).collect(),
        }
    }
}

impl fmt::Display for DiffusionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frechet = self.frechet_images > 0;
        writeln!(
            f,
            "model: {}; dataset: {} ({} test images); device {}",
            self.model, self.dataset, self.test_images, self.device
        )?;
        if frechet {
            writeln!(
                f,
                "FD: Fréchet distance on ViT features of {} sampled images to the test images; it is not FID",
                self.frechet_images
            )?;
        }
        let mut titles: Vec<String> = ["layer error", "compressed", "retrained"].map(String::from).into();
        if frechet {
            titles.extend(["FD compressed", "FD retrained"].map(String::from));
        }
        titles.extend(ModelCost::titles("image"));
        titles.extend(["steps", "s"].map(String::from));
        let mut table = Table::new("structure", titles);
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let mut push =
            |name: String, layer_error, [first, last]: [Option<DiffusionQuality>; 2], cost: &ModelCost, end| {
                let mut cells = vec![name, number(layer_error)];
                cells.extend([first, last].map(|quality| number(quality.map(|quality| quality.noise_error))));
                if frechet {
                    let distance = |quality: DiffusionQuality| quality.frechet_distance_on_vit_features;
                    cells.extend([first, last].map(|quality| number(quality.and_then(distance))));
                }
                cells.extend(cost.cells());
                let end: [String; 2] = end;
                cells.extend(end);
                table.push(cells);
            };
        push("not compressed".into(), None, [Some(self.dense), None], &self.dense_cost, ["-".into(), "-".into()]);
        for row in &self.rows {
            let end = [row.retraining_steps.to_string(), format!("{:.0}", row.retraining_seconds)];
            let qualities = [Some(row.compressed), row.retrained];
            push(row.structure.to_string(), Some(row.layer_error), qualities, &row.cost, end);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(frechet: Option<f64>) -> DiffusionReport {
        let cost = |relative_flops| ModelCost {
            params: 1000,
            replaced_flops: 2_000_000,
            relative_flops,
            model_flops: 3_000_000,
            relative_model_flops: 0.5,
        };
        let quality = |noise_error| DiffusionQuality { noise_error, frechet_distance_on_vit_features: frechet };
        DiffusionReport {
            model: "runs/dit".into(),
            dataset: "synthetic".into(),
            test_images: 20,
            frechet_images: if frechet.is_some() { 64 } else { 0 },
            device: "flex".into(),
            dense: quality(0.0625),
            dense_cost: cost(1.0),
            rows: vec![DiffusionRow {
                structure: "blast:b=4,ratio=0.5".parse().unwrap(),
                cost: cost(0.5),
                layer_error: 0.25,
                compressed: quality(0.5),
                retrained: Some(quality(0.125)),
                retraining_steps: 70,
                retraining_seconds: 3.0,
            }],
        }
    }

    #[test]
    fn table_has_distances_where_they_are_measured() {
        let text = report(None).to_string();
        assert!(!text.contains("FD") && text.contains(" 0.0625 ") && text.contains(" 0.1250 "), "{text}");
        let text = report(Some(7.5)).to_string();
        assert!(text.contains("it is not FID") && text.contains("FD retrained") && text.contains(" 7.5000 "), "{text}");
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    }

    #[test]
    fn json_round_trips_and_plot_shows_the_last_error() {
        for report in [report(None), report(Some(1.5))] {
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(serde_json::from_value::<DiffusionReport>(json).unwrap(), report);
        }
        let svg = report(None).chart().to_svg().unwrap();
        assert!(svg.contains("dataset: synthetic") && svg.contains("blast:b=4,ratio=0.5"), "{svg}");
    }
}
