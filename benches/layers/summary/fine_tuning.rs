//! The table of a pretrained sentence encoder that was compressed by several structures and fine-tuned on a task.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use burn_structured::train::comparison::Spread;
use serde::Deserialize;

/// What is used of `fine-tuning.json`, a comparison by `fine_tune_encoder`.
#[derive(Clone, Debug, Deserialize)]
pub struct FineTuning {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    machine: String,
    model: String,
    pairs: String,
    train_pairs: usize,
    test_pairs: usize,
    calibration_sentences: usize,
    config: Config,
    rows: Vec<Row>,
    /// What else is to be known, in words.
    #[serde(default)]
    note: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Config {
    epochs: usize,
    batch_size: usize,
    lr: f64,
    embeddings: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    structure: String,
    dense_layers: Vec<String>,
    params_ratio: f64,
    flops_ratio: f64,
    before: f64,
    runs: Vec<Run>,
    latencies: Vec<Latency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    spearman: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Latency {
    sentences: usize,
    median_ms: f64,
    lower_quartile_ms: f64,
    upper_quartile_ms: f64,
}

impl Row {
    fn after(&self) -> f64 {
        100.0 * self.runs.iter().map(|run| run.spearman).sum::<f64>() / self.runs.len() as f64
    }

    /// The score with its standard deviation over the seeds.
    fn spread(&self) -> String {
        let Spread { mean, deviation } = Spread::of(self.runs.iter().map(|run| 100.0 * run.spearman));
        match deviation {
            None => format!("{mean:.2}"),
            Some(deviation) => format!("{mean:.2} ± {deviation:.2}"),
        }
    }
}

/// All that the page says of a fine-tuned encoder, the best score first.
pub fn section(file: &Recorded<FineTuning>) -> String {
    let results = &file.results;
    let mut rows: Vec<&Row> = results.rows.iter().collect();
    rows.sort_by(|a, b| b.after().total_cmp(&a.after()));
    let sizes = rows.first().map(|row| row.latencies.as_slice()).unwrap_or_default();
    let head = ["structure", "dense layers", "parameters", "FLOPs", "before", "after"].map(String::from).into_iter();
    let head: Vec<String> = head.chain(sizes.iter().map(|time| format!("ms, batch {}", time.sentences))).collect();
    let line = |row: &&Row| {
        let share = |share: f64| format!("{:.0} %", 100.0 * share);
        let time = |time: &Latency| {
            format!("{:.1} ({:.1}–{:.1})", time.median_ms, time.lower_quartile_ms, time.upper_quartile_ms)
        };
        let mut cells = vec![format!("`{}`", row.structure), row.dense_layers.len().to_string()];
        cells.extend([share(row.params_ratio), share(row.flops_ratio)]);
        cells.extend([format!("{:.2}", 100.0 * row.before), row.spread()]);
        cells.extend(row.latencies.iter().map(time));
        cells
    };
    let Config { epochs, batch_size, lr, embeddings } = results.config;
    let seeds = match rows.iter().map(|row| row.runs.len()).max().unwrap_or(0) {
        1 => "one run each".into(),
        runs => format!("{runs} runs each"),
    };
    let trained = if embeddings { "all parameters" } else { "all parameters but the embeddings" };
    let note = if results.note.is_empty() { String::new() } else { format!(" {}", results.note) };
    format!(
        "\n{} on {}: {} pairs to train on, {} to score, without a sentence in both; calibrated on {} training sentences, then {trained} \
         trained for {epochs} epochs in batches of {batch_size} at a learning rate of {lr:e}, {seeds}. Scores are Spearman's \
         correlation × 100 on the pairs to score, before and after; parameters and FLOPs those of the encoder's linear layers beside \
         dense ones; times the median of batches of these sentences and the range of half of them, on {}.{note} \
         [Scores](fine-tuning.svg), [times](latency.svg).\n{}{}",
        results.model,
        results.pairs,
        results.train_pairs,
        results.test_pairs,
        results.calibration_sentences,
        results.machine,
        results.origin.line(file),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}
