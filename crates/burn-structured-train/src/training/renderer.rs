//! Progress in plain lines, for logs and pipes; on a terminal Burn's own dashboard is used.

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// Seconds between two lines of a pass.
const INTERVAL: Duration = Duration::from_secs(10);

/// Prints one line at the end of every pass, and one every ten seconds in between.
pub struct LineRenderer<W = std::io::Stderr> {
    out: W,
    epochs: usize,
    epoch: usize,
    split: String,
    items: usize,
    processed: usize,
    started: Instant,
    printed: Instant,
    names: Vec<(MetricId, String)>,
    sums: BTreeMap<String, (f64, usize)>,
}

impl LineRenderer {
    /// Lines to standard error, where they do not mix with results.
    pub fn new() -> Self {
        Self::to(std::io::stderr())
    }
}

impl Default for LineRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> LineRenderer<W> {
    /// Lines to `out`.
    pub fn to(out: W) -> Self {
        Self {
            out,
            epochs: 0,
            epoch: 0,
            split: String::new(),
            items: 0,
            processed: 0,
            started: Instant::now(),
            printed: Instant::now(),
            names: Vec::new(),
            sums: BTreeMap::new(),
        }
    }

    fn update(&mut self, state: MetricState) {
        let MetricState::Numeric(entry, Some(value)) = state else { return };
        let Some((_, name)) = self.names.iter().find(|(id, _)| *id == entry.metric_id) else { return };
        let (value, count) = match value {
            // The epoch's own aggregate repeats what the batches said.
            NumericEntry::Final(_) => return,
            NumericEntry::Value(value) => (value, 1),
            NumericEntry::Aggregated { aggregated_value, count } => (aggregated_value, count),
        };
        let (sum, total) = self.sums.entry(name.clone()).or_default();
        *sum += value * count as f64;
        *total += count;
    }

    fn line(&mut self) {
        let metrics: Vec<String> = self
            .sums
            .iter()
            .map(|(name, (sum, count))| format!("{} {:.3}", name.to_lowercase(), sum / (*count).max(1) as f64))
            .collect();
        let rate = self.processed as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        // Training goes on when the pipe is closed.
        let _ = writeln!(
            self.out,
            "epoch {}/{}  {:5}  {}/{} images  {}  {rate:.0} images/s",
            self.epoch,
            self.epochs,
            self.split,
            self.processed,
            self.items,
            metrics.join("  "),
        );
        self.printed = Instant::now();
    }
}

impl<W: Write + Send + Sync> MetricsRendererTraining for LineRenderer<W> {
    fn update_train(&mut self, state: MetricState) {
        self.update(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.update(state);
    }
}

impl<W: Write + Send> TrainingProgressLogger for LineRenderer<W> {
    fn start(&mut self, epochs: usize, first: usize, _items: Option<usize>, _label: Option<&str>) {
        self.epochs = epochs;
        self.epoch = first;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.split = split.to_lowercase();
        self.items = items;
        self.processed = 0;
        self.sums.clear();
        self.started = Instant::now();
        self.printed = Instant::now();
    }

    fn update_split(&mut self, processed: usize) {
        self.processed = processed;
        if self.printed.elapsed() >= INTERVAL {
            self.line();
        }
    }

    fn end_split(&mut self) {
        self.line();
    }

    fn end(&mut self) {}

    // Burn's loop reports every iteration as an event.
    fn log_event_training(&mut self, _event: String) {}
}

impl<W: Write + Send> EvaluationProgressLogger for LineRenderer<W> {
    fn start_global_progress(&mut self, _tests: usize) {}

    fn start_test(&mut self, name: &str, items: usize) {
        TrainingProgressLogger::start_split(self, name, items);
    }

    fn update_test_progress(&mut self, processed: usize) {
        TrainingProgressLogger::update_split(self, processed);
    }

    fn end_test(&mut self) {
        self.line();
    }

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl<W: Write + Send + Sync> MetricsRendererEvaluation for LineRenderer<W> {
    fn update_test(&mut self, _name: EvaluationName, state: MetricState) {
        self.update(state);
    }
}

impl<W: Write + Send + Sync> MetricsRenderer for LineRenderer<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.push((definition.metric_id, definition.name.to_string()));
    }
}
