//! The record of a run: the error at every step, and why each matrix stopped.

use serde::{Deserialize, Serialize};

/// One point of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracePoint {
    /// Steps done; 0 is the start.
    pub step: usize,
    /// Seconds since the run began, with the computation of the start.
    pub seconds: f64,
    /// Relative error of each matrix.
    pub errors: Vec<f64>,
}

impl TracePoint {
    /// Mean relative error of the batch.
    pub fn mean_error(&self) -> f64 {
        self.errors.iter().sum::<f64>() / self.errors.len() as f64
    }

    /// The largest relative error of the batch.
    pub fn worst_error(&self) -> f64 {
        self.errors.iter().copied().fold(0.0, |worst, error| if error.is_nan() { error } else { worst.max(error) })
    }
}

/// Why the steps of a matrix stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// All steps were done.
    Steps,
    /// The error is within the tolerance.
    Tolerance,
    /// The error did not fall enough within the patience.
    Stalled,
    /// The time budget was used up.
    Time,
    /// The observer returned `Break`.
    Interrupted,
}
