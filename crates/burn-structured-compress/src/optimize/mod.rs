//! Gradient training of a part of a model, shared by refinement and distillation.
//!
//! AdamW without weight decay, the gradients clipped by their norm together, a linear warm-up and a cosine. A run repeats bit for
//! bit on a backend whose operations do: the order of the batches follows from the seed, and a time budget becomes a number of
//! steps before the first one.

mod budget;
mod clip;
mod lift;
mod schedule;
mod train;

pub use budget::Budget;
pub(crate) use lift::with_tape;
pub(crate) use train::{Settings, train};

/// What an observer receives after every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingStep {
    /// The steps that are done.
    pub step: usize,
    /// The steps of the whole training.
    pub steps: usize,
    /// The loss of the step's batch.
    pub loss: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
}
