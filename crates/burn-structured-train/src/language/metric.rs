//! The loss as Burn's loop measures it, written to a [`Curve`] step by step.

use super::curve::Curve;
use crate::training::{Interrupter, TrainingError};
use burn::tensor::{Tensor, TensorReadError};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The loss of a batch, as a mean over its tokens.
pub(super) struct LossInput {
    pub loss: Tensor<1>,
    /// Sequences of the batch.
    pub sequences: usize,
}

/// Where the losses go, a row at a time. Clones share the file.
#[derive(Clone)]
pub(super) struct LossFile(Arc<Mutex<State>>);

struct State {
    curve: Curve,
    /// Steps that are done after the next row.
    step: usize,
    /// Steps from one row to the next.
    interval: usize,
    /// Steps that are done after the last row.
    last: usize,
    interrupter: Interrupter,
}

impl LossFile {
    /// Rows to `curve` after every `interval` steps of those from `done` on, and after the step `last`. `interrupter` stops the
    /// run if a row cannot be written.
    pub fn new(curve: Curve, done: usize, interval: usize, last: usize, interrupter: Interrupter) -> Self {
        Self(Arc::new(Mutex::new(State { curve, step: (done + interval).min(last), interval, last, interrupter })))
    }

    /// The error that a row could not be written for, if there was one.
    pub fn finish(&self) -> Result<(), TrainingError> {
        self.with(|state| state.curve.finish())
    }

    fn push(&self, loss: f64, lr: Option<f64>) {
        // As precise as it was computed.
        let loss = loss as f32;
        let values = lr.map_or(loss.to_string(), |lr| format!("{loss},{lr}"));
        self.with(|state| {
            state.curve.push(state.step, &values);
            state.step = (state.step + state.interval).min(state.last);
            if state.curve.failed() {
                state.interrupter.stop(Some("the losses cannot be written"));
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A mean over items of which some count for more.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64, count: usize) {
        self.sum += value * count as f64;
        self.count += count;
    }

    fn entry(&self) -> NumericEntry {
        NumericEntry::Aggregated { aggregated_value: self.value(), count: self.count }
    }

    fn value(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

/// The mean loss over the sequences of a pass, with a row in a file for every `sequences_per_row` of them.
#[derive(Clone)]
pub(super) struct Loss {
    file: LossFile,
    sequences_per_row: usize,
    batch: Mean,
    row: Mean,
    pass: Mean,
}

impl Loss {
    pub fn new(file: LossFile, sequences_per_row: usize) -> Self {
        let mean = Mean::default();
        Self { file, sequences_per_row, batch: mean, row: mean, pass: mean }
    }
}

impl Metric for Loss {
    type Input = LossInput;

    fn name(&self) -> MetricName {
        Arc::new("Loss".to_string())
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }

    fn update(&mut self, input: &LossInput, metadata: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let loss = input.loss.clone().try_into_scalar::<f64>()?;
        self.batch = Mean { sum: loss * input.sequences as f64, count: input.sequences };
        self.row.add(loss, input.sequences);
        self.pass.add(loss, input.sequences);
        if self.row.count >= self.sequences_per_row {
            self.file.push(std::mem::take(&mut self.row).value(), metadata.lr.as_ref().map(|lr| lr.base()));
        }
        let formatted = format!("epoch {:.4} - batch {loss:.4}", self.pass.value());
        Ok(SerializedEntry::new(formatted, self.batch.entry().serialize()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        let mean = self.pass.value();
        Ok(SerializedEntry::new(format!("epoch {mean:.4}"), NumericEntry::Final(mean).serialize()))
    }

    fn clear(&mut self) {
        // What an interrupted pass left of a row is dropped.
        (self.batch, self.row, self.pass) = (Mean::default(), Mean::default(), Mean::default());
        self.file.with(|state| state.curve.sync());
    }
}

impl Numeric for Loss {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.batch.entry())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.pass.entry())
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.pass.value())
    }
}
