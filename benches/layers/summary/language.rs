//! The tables of language models: structures trained alike, a dense model compressed and retrained, and tokens a second.

use super::files::Recorded;
use super::{plots, source, table};
use burn_structured::train::comparison::{Better, Chart, FLOPS, Point, Spread};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Where figures are from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The program and its commit.
    pub program: String,
    measured: String,
    command: String,
}

impl Origin {
    /// The line that says so.
    pub fn line<T>(&self, file: &Recorded<T>) -> String {
        source(file, &self.program, &self.measured, &self.command)
    }
}

/// What is used of `language.json`, a comparison by `gpt2_text --compare`.
#[derive(Clone, Debug, Deserialize)]
pub struct Comparison {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    data: String,
    tokenizer: String,
    train_tokens: usize,
    validation_tokens: usize,
    context: usize,
    stride: usize,
    recipe: Recipe,
    rows: Vec<Trained>,
    /// What else was found, in words.
    #[serde(default)]
    note: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Recipe {
    steps: usize,
    batch_size: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Trained {
    structures: String,
    lr: f64,
    runs: Vec<Run>,
    params: usize,
    relative_flops: f64,
    relative_model_flops: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    perplexity: f64,
    inference_tokens_per_second: Option<f64>,
}

impl Trained {
    fn spread(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.perplexity))
    }

    fn perplexity(&self) -> f64 {
        self.spread().mean
    }

    /// Microseconds for a token in evaluation, of the fastest run that was timed.
    fn microseconds(&self) -> Option<f64> {
        let rates = self.runs.iter().filter_map(|run| run.inference_tokens_per_second);
        rates.max_by(f64::total_cmp).map(|rate| 1e6 / rate)
    }
}

/// The files of [`charts`].
pub const PLOTS: [&str; 2] = ["perplexity-against-flops.svg", "perplexity-against-time.svg"];

/// The perplexity of every structure against its FLOPs and, where it was timed, against the time of inference.
pub fn charts(comparison: &Comparison) -> Vec<(&'static str, Chart<'_>)> {
    let dense = comparison.rows.iter().find(|row| row.structures == "dense").and_then(Trained::microseconds);
    let chart = |x_label, x: &dyn Fn(&Trained) -> Option<f64>| {
        let point = |row: &Trained| {
            let Spread { mean, deviation } = row.spread();
            Some(Point { x: 100.0 * x(row)?, y: mean, deviation, name: row.structures.clone() })
        };
        Chart {
            title: format!("GPT-2, {} training tokens, {} steps", comparison.train_tokens, comparison.recipe.steps),
            x_label,
            y_label: "perplexity of a token",
            better: Better::Lower,
            percent: false,
            points: comparison.rows.iter().filter_map(point).collect(),
        }
    };
    let flops = chart(FLOPS, &|row| Some(row.relative_flops));
    let time = chart("time of a token in inference, % of dense", &|row| Some(row.microseconds()? / dense?));
    let both = PLOTS.into_iter().zip([flops, time]);
    both.filter(|(_, chart)| chart.points.iter().any(|point| point.name != chart.points[0].name)).collect()
}

/// What the file has, in words.
pub fn words(comparison: &Comparison) -> String {
    let structures: BTreeSet<&str> = comparison.rows.iter().map(|row| row.structures.as_str()).collect();
    let data = comparison.data.split([',', ';']).next().unwrap_or_default();
    match structures.len() {
        1 => format!("a language model trained ({data})"),
        structures => format!("language models of {structures} structures trained alike ({data})"),
    }
}

/// All that the page says of a comparison, the lowest perplexity first.
pub fn comparison(file: &Recorded<Comparison>) -> String {
    let comparison = &file.results;
    let mut rows: Vec<&Trained> = comparison.rows.iter().collect();
    rows.sort_by(|a, b| a.perplexity().total_cmp(&b.perplexity()));
    let dense = rows.iter().find(|row| row.structures == "dense").map(|row| row.perplexity());
    let line = |row: &&Trained| {
        vec![
            format!("`{}`", row.structures),
            format!("{:e}", row.lr),
            row.spread().to_string(),
            dense.map_or_else(String::new, |dense| change(row.perplexity(), dense)),
            row.params.to_string(),
            format!("{:.0} %, {:.0} %", 100.0 * row.relative_flops, 100.0 * row.relative_model_flops),
            row.microseconds().map_or_else(String::new, |microseconds| format!("{microseconds:.1}")),
        ]
    };
    let head = [
        "structure",
        "learning rate",
        "perplexity of a token",
        "vs. dense",
        "parameters",
        "FLOPs: layers, model",
        "µs for a token",
    ];
    let seeds = match rows.iter().map(|row| row.runs.len()).max() {
        Some(1) => "one seed".into(),
        seeds => format!("up to {} seeds", seeds.unwrap_or(0)),
    };
    let note = if comparison.note.is_empty() { String::new() } else { format!("- {}\n", comparison.note) };
    let plot = plots(&charts(comparison));
    format!(
        "\n{}: {} training tokens ({}), {} steps of {} × {}, {seeds}; {} held-out tokens, context {}, stride {}.{plot}\n{}{note}{}",
        comparison.data,
        comparison.train_tokens,
        comparison.tokenizer,
        comparison.recipe.steps,
        comparison.recipe.batch_size,
        comparison.context,
        comparison.validation_tokens,
        comparison.context,
        comparison.stride,
        comparison.origin.line(file),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}

/// What is used of `compression.json`, a model compressed by `gpt2_text --compress`.
#[derive(Clone, Debug, Deserialize)]
pub struct Compression {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    data: String,
    retraining: String,
    calibration_tokens: usize,
    dense: f64,
    rows: Vec<Compressed>,
}

#[derive(Clone, Debug, Deserialize)]
struct Compressed {
    structures: String,
    layer_error: f64,
    compressed: f64,
    retrained: Option<f64>,
    relative_flops: f64,
}

/// All that the page says of a compression.
pub fn compression(file: &Recorded<Compression>) -> String {
    let Compression { origin, data, retraining, calibration_tokens, dense, rows } = &file.results;
    let line = |row: &Compressed| {
        vec![
            format!("`{}`", row.structures),
            format!("{:.0} %", 100.0 * row.relative_flops),
            format!("{:.3}", row.layer_error),
            format!("{:.3}", row.compressed),
            row.retrained.map_or_else(String::new, |retrained| format!("{retrained:.3}")),
            change(row.retrained.unwrap_or(row.compressed), *dense),
        ]
    };
    let head = ["compressed to", "FLOPs of the layers", "error of the layers", "perplexity", "retrained", "vs. dense"];
    format!(
        "\nA dense model compressed, {data}: perplexity {dense:.3}, calibrated on {calibration_tokens} tokens; {retraining}.\n{}{}",
        origin.line(file),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}

/// What is used of `generation.json`, tokens a second of the example `generate`.
#[derive(Clone, Debug, Deserialize)]
pub struct Generation {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    model: String,
    rows: Vec<Generated>,
}

#[derive(Clone, Debug, Deserialize)]
struct Generated {
    structure: String,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

/// All that the page says of generation.
pub fn generation(file: &Recorded<Generation>) -> String {
    let Generation { origin, model, rows } = &file.results;
    let line = |row: &Generated| {
        vec![
            row.structure.clone(),
            format!("{:.0}", row.prefill_tokens_per_second),
            format!("{:.0}", row.decode_tokens_per_second),
        ]
    };
    format!(
        "\n### Generation, tokens a second\n\n{model}.\n{}{}",
        origin.line(file),
        table(&["structure", "prefill", "decode"], &rows.iter().map(line).collect::<Vec<_>>())
    )
}

/// `+4.2 %`.
fn change(perplexity: f64, dense: f64) -> String {
    format!("{:+.1} %", 100.0 * (perplexity / dense - 1.0))
}
