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

/// How far a pass over the data is.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The epochs of the whole run.
    pub epochs: usize,
    /// The first epoch that this process ran.
    pub first_epoch: usize,
    /// `train` or `valid`.
    pub split: String,
    /// The items of the pass.
    pub items: usize,
    /// Those that have been processed.
    pub processed: usize,
    /// The name of every metric, in lower case and in alphabetical order, with its mean over the pass so far.
    pub metrics: Vec<(String, f64)>,
    /// Items a second in this pass.
    pub items_per_second: f64,
    /// Since this process began to train.
    pub elapsed: Duration,
}

impl Pass {
    /// The mean of the metric with this name, if it was measured.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(metric, _)| metric == name).map(|(_, mean)| *mean)
    }
}

/// Prints one line at the end of every pass, and one every ten seconds in between.
pub struct LineRenderer<W = std::io::Stderr> {
    out: W,
    format: Box<dyn Fn(&Pass) -> String + Send + Sync>,
    epochs: usize,
    first_epoch: usize,
    epoch: usize,
    split: String,
    items: usize,
    processed: usize,
    launched: Instant,
    started: Instant,
    printed: Instant,
    names: Vec<(MetricId, String)>,
    sums: BTreeMap<String, (f64, usize)>,
}

impl LineRenderer {
    /// Lines as `format` writes them, to standard error, where they do not mix with results.
    pub fn new(format: impl Fn(&Pass) -> String + Send + Sync + 'static) -> Self {
        Self::to(std::io::stderr(), format)
    }
}

impl<W: Write> LineRenderer<W> {
    /// Lines as `format` writes them, to `out`.
    pub fn to(out: W, format: impl Fn(&Pass) -> String + Send + Sync + 'static) -> Self {
        Self {
            out,
            format: Box::new(format),
            epochs: 0,
            first_epoch: 0,
            epoch: 0,
            split: String::new(),
            items: 0,
            processed: 0,
            launched: Instant::now(),
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

    fn pass(&self) -> Pass {
        let mean = |(name, (sum, count)): (&String, &(f64, usize))| (name.to_lowercase(), sum / (*count).max(1) as f64);
        Pass {
            epoch: self.epoch,
            epochs: self.epochs,
            first_epoch: self.first_epoch,
            split: self.split.clone(),
            items: self.items,
            processed: self.processed,
            metrics: self.sums.iter().map(mean).collect(),
            items_per_second: self.processed as f64 / self.started.elapsed().as_secs_f64().max(1e-9),
            elapsed: self.launched.elapsed(),
        }
    }

    fn line(&mut self) {
        let line = (self.format)(&self.pass());
        // Training goes on when the pipe is closed.
        let _ = writeln!(self.out, "{line}");
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
        (self.first_epoch, self.epoch) = (first, first);
        self.launched = Instant::now();
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::train::metric::{LossMetric, Metric, MetricEntry, SerializedEntry};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn line_has_the_mean_of_every_metric_over_the_pass() {
        let lines = Lines::default();
        let mut renderer = LineRenderer::to(lines.clone(), |pass: &Pass| {
            let loss = pass.metric("loss").map_or("-".to_string(), |loss| format!("{loss}"));
            format!("{} of {}, {} {}/{}, {loss}", pass.epoch, pass.epochs, pass.split, pass.processed, pass.items)
        });
        let id = MetricId::new(Arc::new("loss".to_string()));
        renderer.register_metric(MetricDefinition::new(id.clone(), &LossMetric::new()));
        assert_eq!(LossMetric::new().name().to_string(), "Loss");
        TrainingProgressLogger::start(&mut renderer, 3, 2, None, None);
        TrainingProgressLogger::start_split(&mut renderer, "Train", 30);
        for (loss, count) in [(1.0, 10), (4.0, 20)] {
            let entry = MetricEntry::new(id.clone(), SerializedEntry::new(String::new(), String::new()));
            let value = NumericEntry::Aggregated { aggregated_value: loss, count };
            renderer.update_train(MetricState::Numeric(entry, Some(value)));
        }
        TrainingProgressLogger::update_split(&mut renderer, 30);
        TrainingProgressLogger::end_split(&mut renderer);
        renderer.update_epoch(2);
        TrainingProgressLogger::start_split(&mut renderer, "Valid", 5);
        TrainingProgressLogger::end_split(&mut renderer);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "2 of 3, train 30/30, 3\n3 of 3, valid 0/5, -\n");
    }
}
