//! The figures of a comparison of language models.

use super::ModelCost;
use super::chart::{Better, Chart, FLOPS, Point};
use super::save::{ReportError, save};
use super::table::Table;
use crate::language::LanguageRecipe;
use burn_structured_models::decoder::LayerRules;
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a model trained with one seed achieves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRun {
    /// The seed of the weights and the data.
    pub seed: u64,
    /// Mean negative log-likelihood of a validation token, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Tokens a second in training; `None` if this process trained nothing.
    pub training_tokens_per_second: Option<f64>,
    /// Tokens a second in evaluation.
    pub inference_tokens_per_second: f64,
}

/// Mean and standard deviation of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean; NaN without runs.
    pub mean: f64,
    /// The standard deviation of the sample; `None` for fewer than two runs.
    pub deviation: Option<f64>,
}

impl Spread {
    /// The spread of these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Self { mean, deviation }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.mean)?;
        self.deviation.map_or(Ok(()), |deviation| write!(f, " ± {deviation:.3}"))
    }
}

/// One structure's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageRow {
    /// The structures of the replaced layers.
    pub structures: LayerRules,
    /// The peak learning rate it was trained with.
    pub lr: f64,
    /// The results, by seed.
    pub runs: Vec<SeedRun>,
    /// What one token costs at full context.
    #[serde(flatten)]
    pub cost: ModelCost,
}

impl LanguageRow {
    /// The perplexities of the runs.
    pub fn perplexity(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.perplexity))
    }
}

/// A comparison of language models and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageReport {
    /// The training and validation text.
    pub data: String,
    /// The tokenizer's name.
    pub tokenizer: String,
    /// Training tokens.
    pub train_tokens: usize,
    /// Validation tokens that are scored.
    pub validation_tokens: usize,
    /// Tokens that the models see.
    pub context: usize,
    /// How far the window moves for the next tokens to be scored.
    pub stride: usize,
    /// The devices that the models were trained on.
    pub devices: Vec<String>,
    /// What every structure was trained with, learning rate and seed aside.
    pub recipe: LanguageRecipe,
    /// One row for each structure.
    pub rows: Vec<LanguageRow>,
}

impl LanguageReport {
    /// Writes `comparison.json` and the plot `comparison.svg` into `folder`, and returns their paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or there is nothing to draw.
    pub fn save(&self, folder: &Path) -> Result<[PathBuf; 2], ReportError> {
        save(self, &self.chart(), folder, "comparison")
    }

    fn chart(&self) -> Chart<'_> {
        let point = |row: &LanguageRow| {
            let Spread { mean, deviation } = row.perplexity();
            Point { x: 100.0 * row.cost.relative_flops, y: mean, deviation, name: row.structures.to_string() }
        };
        Chart {
            title: format!(
                "data: {} - {} training tokens ({}), {} steps",
                self.data, self.train_tokens, self.tokenizer, self.recipe.steps
            ),
            x_label: FLOPS,
            y_label: "validation perplexity of a token",
            better: Better::Lower,
            percent: false,
            points: self.rows.iter().map(point).collect(),
        }
    }

    /// The mean perplexity of the dense model, if it is part of the comparison.
    fn dense(&self) -> Option<f64> {
        let dense = LayerRules::from(Structure::Dense);
        self.rows.iter().find(|row| row.structures == dense).map(|row| row.perplexity().mean)
    }
}

impl fmt::Display for LanguageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "data: {} ({} training tokens, {} scored; tokenizer {}), {} steps, context {}, stride {}, devices {}",
            self.data,
            self.train_tokens,
            self.validation_tokens,
            self.tokenizer,
            self.recipe.steps,
            self.context,
            self.stride,
            self.devices.join(", ")
        )?;
        let titles = ["lr", "seeds", "perplexity", "vs. dense"].map(String::from).into_iter();
        let speeds = ["train tok/s", "infer tok/s"].map(String::from);
        let mut table = Table::new("structure", titles.chain(ModelCost::titles("token")).chain(speeds));
        let dense = self.dense();
        for row in &self.rows {
            let perplexity = row.perplexity();
            let mut cells = vec![row.structures.to_string(), row.lr.to_string(), row.runs.len().to_string()];
            cells.push(perplexity.to_string());
            cells.push(dense.map_or("-".into(), |dense| format!("{:+.1} %", 100.0 * (perplexity.mean / dense - 1.0))));
            cells.extend(row.cost.cells());
            let training: Vec<f64> = row.runs.iter().filter_map(|run| run.training_tokens_per_second).collect();
            let speed = |rates: Vec<f64>| match rates.is_empty() {
                true => "-".to_string(),
                false => format!("{:.0}", Spread::of(rates).mean),
            };
            cells.push(speed(training));
            cells.push(speed(row.runs.iter().map(|run| run.inference_tokens_per_second).collect()));
            table.push(cells);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> LanguageReport {
        let row = |structures: &str, perplexities: &[f64], relative_flops| LanguageRow {
            structures: structures.parse().unwrap(),
            lr: 0.001,
            runs: perplexities
                .iter()
                .zip(1..)
                .map(|(perplexity, seed)| SeedRun {
                    seed,
                    loss: perplexity.ln(),
                    perplexity: *perplexity,
                    training_tokens_per_second: None,
                    inference_tokens_per_second: 900.0,
                })
                .collect(),
            cost: ModelCost {
                params: 1000,
                replaced_flops: 2_000_000,
                relative_flops,
                model_flops: 3_000_000,
                relative_model_flops: 0.5,
            },
        };
        LanguageReport {
            data: "book".into(),
            tokenizer: "bytes".into(),
            train_tokens: 1000,
            validation_tokens: 100,
            context: 64,
            stride: 32,
            devices: vec!["flex".into()],
            recipe: LanguageRecipe::default(),
            rows: vec![row("dense", &[4.0, 6.0], 1.0), row("attention=dense;mlp=blast:b=4,ratio=0.4", &[5.5], 0.4)],
        }
    }

    #[test]
    fn spread_is_mean_and_sample_deviation() {
        assert_eq!(Spread::of([1.0, 2.0, 3.0]), Spread { mean: 2.0, deviation: Some(1.0) });
        assert_eq!(Spread::of([5.0]), Spread { mean: 5.0, deviation: None });
        assert_eq!(Spread::of([4.0, 6.0]).to_string(), "5.000 ± 1.414");
    }

    #[test]
    fn table_compares_with_the_dense_model() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("data: book (1000 training tokens, 100 scored; tokenizer bytes)"), "{text}");
        assert!(lines[1..].iter().all(|line| line.chars().count() == lines[1].chars().count()), "{text}");
        assert!(lines[3].contains("5.000 ± 1.414") && lines[3].contains("+0.0 %"), "{text}");
        assert!(lines[4].contains("5.500") && lines[4].contains("+10.0 %") && lines[4].contains("40 %"), "{text}");
        let mut report = report();
        report.rows.remove(0);
        assert!(report.to_string().contains("|         - |"), "{report}");
    }

    #[test]
    fn plot_shows_perplexities_and_their_spread() {
        let svg = report().chart().to_svg().unwrap();
        for word in ["data: book", "5.000 ± 1.414  dense", "5.500  attention=dense;mlp=blast:b=4,ratio=0.4"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn json_round_trips() {
        let report = report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][1]["structures"], "attention=dense;mlp=blast:b=4,ratio=0.4");
        assert_eq!(serde_json::from_value::<LanguageReport>(json).unwrap(), report);
    }
}
