//! The figures of a dense language model that was compressed and retrained.

use super::ModelCost;
use super::chart::{Better, Chart, FLOPS, Point};
use super::save::{ReportError, save};
use super::table::Table;
use burn_structured_models::decoder::LayerRules;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainingRow {
    /// The structures of the compressed layers.
    pub structures: LayerRules,
    /// What one token costs at full context.
    #[serde(flatten)]
    pub cost: ModelCost,
    /// Mean relative error of the compressed layers, on the inputs of the calibration if there was one.
    pub layer_error: f64,
    /// Perplexity of the compressed model.
    pub compressed: f64,
    /// Perplexity after retraining; `None` without retraining.
    pub retrained: Option<f64>,
    /// Seconds of the compression, without the calibration that all structures share.
    pub compression_seconds: f64,
    /// Seconds of the retraining.
    pub retraining_seconds: f64,
    /// Steps of the retraining.
    pub retraining_steps: usize,
}

/// A dense language model, compressed by several structures, and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainingReport {
    /// The dense model.
    pub model: String,
    /// The text.
    pub data: String,
    /// Tokens of the calibration; 0 without one.
    pub calibration_tokens: usize,
    /// What was retrained how, in words.
    pub retraining: String,
    /// Validation tokens that are scored.
    pub validation_tokens: usize,
    /// Tokens that the models see.
    pub context: usize,
    /// How far the window moves for the next tokens to be scored.
    pub stride: usize,
    /// The device of the models.
    pub device: String,
    /// Perplexity of the dense model.
    pub dense: f64,
    /// What one token costs in the dense model.
    pub dense_cost: ModelCost,
    /// One row for each structure.
    pub rows: Vec<RetrainingRow>,
}

impl RetrainingReport {
    /// Writes `compression.json` and the plot `compression.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        save(self, &self.chart(), folder, "compression")
    }

    /// The best perplexity of every structure beside the dense one.
    fn chart(&self) -> Chart<'_> {
        let point =
            |relative_flops: f64, y: f64, name: String| Point { x: 100.0 * relative_flops, y, deviation: None, name };
        let rows = self.rows.iter().map(|row| {
            point(row.cost.relative_flops, row.retrained.unwrap_or(row.compressed), row.structures.to_string())
        });
        Chart {
            title: format!("{} compressed - {}", self.model, self.retraining),
            x_label: FLOPS,
            y_label: "validation perplexity of a token",
            better: Better::Lower,
            percent: false,
            points: std::iter::once(point(self.dense_cost.relative_flops, self.dense, "not compressed".into()))
                .chain(rows)
                .collect(),
        }
    }
}

impl fmt::Display for RetrainingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "model: {}; data: {} ({} tokens scored, context {}, stride {}); calibrated on {} tokens; {}; device {}",
            self.model,
            self.data,
            self.validation_tokens,
            self.context,
            self.stride,
            self.calibration_tokens,
            self.retraining,
            self.device
        )?;
        let qualities = ["layer error", "compressed", "retrained", "vs. dense"].map(String::from).into_iter();
        let times = ["compression s", "retraining s", "steps"].map(String::from);
        let mut table = Table::new("structure", qualities.chain(ModelCost::titles("token")).chain(times));
        let change = |perplexity: f64| format!("{:+.1} %", 100.0 * (perplexity / self.dense - 1.0));
        let mut cells: Vec<String> = vec!["not compressed".into(), "-".into()];
        cells.extend([format!("{:.3}", self.dense), "-".into(), change(self.dense)]);
        cells.extend(self.dense_cost.cells());
        cells.extend(["-", "-", "-"].map(String::from));
        table.push(cells);
        for row in &self.rows {
            let mut cells = vec![row.structures.to_string(), format!("{:.3}", row.layer_error)];
            cells.push(format!("{:.3}", row.compressed));
            cells.push(row.retrained.map_or("-".into(), |perplexity| format!("{perplexity:.3}")));
            cells.push(change(row.retrained.unwrap_or(row.compressed)));
            cells.extend(row.cost.cells());
            cells.push(format!("{:.0}", row.compression_seconds));
            cells.push(format!("{:.0}", row.retraining_seconds));
            cells.push(row.retraining_steps.to_string());
            table.push(cells);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> RetrainingReport {
        let cost = |relative_flops| ModelCost {
            params: 1000,
            replaced_flops: 2_000_000,
            relative_flops,
            model_flops: 3_000_000,
            relative_model_flops: 0.5,
        };
        let row = |structures: &str, compressed, retrained| RetrainingRow {
            structures: structures.parse().unwrap(),
            cost: cost(0.5),
            layer_error: 0.25,
            compressed,
            retrained,
            compression_seconds: 3.0,
            retraining_seconds: 60.0,
            retraining_steps: 200,
        };
        RetrainingReport {
            model: "runs/dense".into(),
            data: "book".into(),
            calibration_tokens: 4096,
            retraining: "retrained for 60 s".into(),
            validation_tokens: 100,
            context: 64,
            stride: 32,
            device: "flex".into(),
            dense: 5.0,
            dense_cost: cost(1.0),
            rows: vec![row("blast:b=4,ratio=0.5", 20.0, Some(5.5)), row("low-rank:ratio=0.5", 10.0, None)],
        }
    }

    #[test]
    fn table_shows_perplexity_before_between_and_after() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1..].iter().all(|line| line.chars().count() == lines[1].chars().count()), "{text}");
        assert!(lines[3].contains("| not compressed ") && lines[3].contains(" 5.000 "), "{text}");
        for word in [" 20.000 ", " 5.500 ", " +10.0 % ", " 200 "] {
            assert!(lines[4].contains(word), "{text}");
        }
        assert!(lines[5].contains(" +100.0 % "), "{text}");
    }

    #[test]
    fn plot_shows_the_last_perplexities() {
        let svg = report().chart().to_svg().unwrap();
        for word in ["5.000  not compressed", "5.500  blast:b=4,ratio=0.5", "10.000  low-rank:ratio=0.5"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn json_round_trips() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RetrainingReport>(&json).unwrap(), report);
    }
}
