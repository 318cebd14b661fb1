//! The figures of a pretrained sentence encoder that was compressed by several structures and fine-tuned.

use super::Spread;
use super::chart::{Better, Chart, Point};
use super::curves::{Curve, Curves};
use super::save::{ReportError, save, write};
use super::table::Table;
use crate::sentences::{EpochScore, FineTuneConfig};
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A fine-tuning with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuningRun {
    /// The seed of the order of the pairs.
    pub seed: u64,
    /// Loss and score after every epoch.
    pub epochs: Vec<EpochScore>,
    /// Spearman's correlation of the last weights on the pairs that are not trained on.
    pub spearman: f64,
    /// Seconds of the training.
    pub seconds: f64,
}

/// The time that a batch of sentences takes, from tokens to embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Sentences of the batch.
    pub sentences: usize,
    /// The median batch, in milliseconds.
    pub median_ms: f64,
    /// A quarter of the batches were faster.
    pub lower_quartile_ms: f64,
    /// A quarter of the batches were slower.
    pub upper_quartile_ms: f64,
    /// How many batches were timed.
    pub rounds: usize,
}

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuningRow {
    /// The structure of the compressed layers.
    pub structure: Structure,
    /// The layers that stay dense, those first whose compression would cost most; all of them if the structure is dense.
    pub dense_layers: Vec<String>,
    /// Parameters of the encoder's linear layers, biases included.
    pub params: usize,
    /// [`params`](Self::params) relative to dense layers.
    pub params_ratio: f64,
    /// FLOPs of these layers relative to dense ones.
    pub flops_ratio: f64,
    /// Mean relative error of the compressed layers' outputs; 0 if there are none.
    pub layer_error: f64,
    /// Spearman's correlation before the fine-tuning.
    pub before: f64,
    /// The fine-tunings, by seed.
    pub runs: Vec<FineTuningRun>,
    /// Times of inference after the fine-tuning, by batch size.
    pub latencies: Vec<Latency>,
    /// Seconds of the compression, without the calibration that all structures share.
    pub compression_seconds: f64,
}

impl FineTuningRow {
    /// The scores after fine-tuning, times 100.
    pub fn after(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| 100.0 * run.spearman))
    }
}

/// A pretrained sentence encoder, compressed by several structures and fine-tuned alike, and what that was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuningReport {
    /// The program and its commit.
    pub program: String,
    /// When, in UTC.
    pub measured: String,
    /// The command line.
    pub command: String,
    /// The machine that the times belong to.
    pub machine: String,
    /// The dense model.
    pub model: String,
    /// The sentence pairs.
    pub pairs: String,
    /// Pairs that are trained on, whose sentences also calibrate the compression.
    pub train_pairs: usize,
    /// Pairs that are scored.
    pub test_pairs: usize,
    /// The seed of the split of the pairs.
    pub split_seed: u64,
    /// Sentences of the calibration.
    pub calibration_sentences: usize,
    /// The device of the models.
    pub device: String,
    /// The settings of the fine-tuning, seed aside.
    pub config: FineTuneConfig,
    /// One row for each structure.
    pub rows: Vec<FineTuningRow>,
}

impl FineTuningReport {
    /// Writes `fine-tuning.json` and the plots `fine-tuning.svg`, scores against parameters, and `latency.svg`, times against batch
    /// sizes, into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or there is nothing to draw.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 3], ReportError> {
        let [json, svg] = save(self, &self.scores(), folder, "fine-tuning")?;
        let latency = folder.join("latency.svg");
        write(&latency, self.latencies().to_svg())?;
        Ok([json, svg, latency])
    }

    fn scores(&self) -> Chart<'_> {
        let point = |row: &FineTuningRow| {
            let Spread { mean, deviation } = row.after();
            Point { x: 100.0 * row.params_ratio, y: mean, deviation, name: row.structure.to_string() }
        };
        Chart {
            title: format!(
                "{} fine-tuned - {}, {} training and {} test pairs",
                self.model, self.pairs, self.train_pairs, self.test_pairs
            ),
            x_label: "parameters of the encoder's linear layers, % of dense",
            y_label: "Spearman's correlation after fine-tuning, × 100",
            better: Better::Higher,
            percent: false,
            points: self.rows.iter().map(point).collect(),
        }
    }

    fn latencies(&self) -> Curves<'_> {
        let curve = |row: &FineTuningRow| Curve {
            name: row.structure.to_string(),
            points: row.latencies.iter().map(|latency| (latency.sentences as f64, latency.median_ms)).collect(),
        };
        Curves {
            title: format!("{} - {}", self.model, self.machine),
            x_label: "sentences of a batch",
            y_label: "median time of a batch, ms",
            curves: self.rows.iter().map(curve).collect(),
        }
    }

    /// The mean score of the dense model, if it is part of the comparison.
    fn dense(&self) -> Option<f64> {
        self.rows.iter().find(|row| row.structure == Structure::Dense).map(|row| row.after().mean)
    }
}

impl fmt::Display for FineTuningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "model: {}; pairs: {} ({} training, {} test; split seed {}); calibrated on {} sentences; {} epochs, batches of {}, \
             learning rate {}; device {}; Spearman's correlation × 100, times in ms (half of the batches within)",
            self.model,
            self.pairs,
            self.train_pairs,
            self.test_pairs,
            self.split_seed,
            self.calibration_sentences,
            self.config.epochs,
            self.config.batch_size,
            self.config.lr,
            self.device
        )?;
        let sizes = self.rows.first().map(|row| row.latencies.as_slice()).unwrap_or_default();
        let titles = ["dense layers", "params", "rel.", "FLOPs rel.", "layer error", "before", "after", "vs. dense"];
        let times = sizes.iter().map(|latency| format!("batch {}", latency.sentences));
        let seconds = ["compression s", "fine-tuning s"].map(String::from);
        let mut table = Table::new("structure", titles.map(String::from).into_iter().chain(times).chain(seconds));
        let dense = self.dense();
        for row in &self.rows {
            let after = row.after();
            let mut cells = vec![row.structure.to_string(), row.dense_layers.len().to_string()];
            cells.push(format!("{:.2} M", row.params as f64 / 1e6));
            cells.extend([row.params_ratio, row.flops_ratio].map(|ratio| format!("{:.0} %", 100.0 * ratio)));
            cells.push(format!("{:.3}", row.layer_error));
            cells.push(format!("{:.2}", 100.0 * row.before));
            cells.push(two_digits(after));
            cells.push(dense.map_or("-".into(), |dense| format!("{:+.2}", after.mean - dense)));
            let spread = |time: &Latency| {
                format!("{:.1} ({:.1}–{:.1})", time.median_ms, time.lower_quartile_ms, time.upper_quartile_ms)
            };
            cells.extend(row.latencies.iter().map(spread));
            cells.push(format!("{:.0}", row.compression_seconds));
            cells.push(format!("{:.0}", Spread::of(row.runs.iter().map(|run| run.seconds)).mean));
            table.push(cells);
        }
        table.fmt(f)
    }
}

/// A score and its deviation over the seeds, to the second digit.
fn two_digits(score: Spread) -> String {
    let deviation = score.deviation.map(|deviation| format!(" ± {deviation:.2}"));
    format!("{:.2}{}", score.mean, deviation.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> FineTuningReport {
        let run = |seed, spearman| FineTuningRun {
            seed,
            epochs: vec![EpochScore { loss: 0.04, spearman }],
            spearman,
            seconds: 30.0,
        };
        let latency = |sentences, median_ms| Latency {
            sentences,
            median_ms,
            lower_quartile_ms: 0.9 * median_ms,
            upper_quartile_ms: 1.1 * median_ms,
            rounds: 20,
        };
        let row = |structure: &str, ratio: f64, scores: &[f64]| FineTuningRow {
            structure: structure.parse().unwrap(),
            dense_layers: vec!["encoder.layer.0.output.dense".into()],
            params: 5_000_000,
            params_ratio: ratio,
            flops_ratio: ratio,
            layer_error: 0.25,
            before: 0.8,
            runs: scores.iter().zip(1..).map(|(score, seed)| run(seed, *score)).collect(),
            latencies: vec![latency(1, 10.0), latency(8, 40.0)],
            compression_seconds: 12.0,
        };
        FineTuningReport {
            program: "burn-structured 0.1.0 (1a2b3c4)".into(),
            measured: "2026-11-30 12:00".into(),
            command: "cargo run".into(),
            machine: "a processor".into(),
            model: "encoder".into(),
            pairs: "pairs.csv".into(),
            train_pairs: 100,
            test_pairs: 50,
            split_seed: 0,
            calibration_sentences: 200,
            device: "flex".into(),
            config: FineTuneConfig::new(),
            rows: vec![row("dense", 1.0, &[0.88]), row("blast:b=6,ratio=0.5", 0.5, &[0.86, 0.87])],
        }
    }

    #[test]
    fn table_shows_scores_before_and_after_and_times() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("model: encoder; pairs: pairs.csv (100 training, 50 test; split seed 0)"),
            "{text}"
        );
        assert!(lines[1..].iter().all(|line| line.chars().count() == lines[1].chars().count()), "{text}");
        assert!(lines[1].contains(" batch 1 ") && lines[1].contains(" batch 8 "), "{text}");
        for cell in [" 5.00 M ", " 50 % ", " 80.00 ", " 86.50 ± 0.71 ", " -1.50 ", " 40.0 (36.0–44.0) ", " 30 "] {
            assert!(lines[4].contains(cell), "{cell}: {text}");
        }
    }

    #[test]
    fn json_and_both_plots_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let [json, scores, latency] = report().save(folder.path()).unwrap();
        let text = std::fs::read_to_string(json).unwrap();
        assert_eq!(serde_json::from_str::<FineTuningReport>(&text).unwrap(), report());
        let scores = std::fs::read_to_string(scores).unwrap();
        for word in
            ["86.50 ± 0.707  blast:b=6,ratio=0.5", "parameters of the encoder", "100 training and 50 test pairs"]
        {
            assert!(scores.contains(word), "{word}");
        }
        let latency = std::fs::read_to_string(latency).unwrap();
        for word in ["blast:b=6,ratio=0.5", "sentences of a batch", "a processor"] {
            assert!(latency.contains(word), "{word}");
        }
    }
}
