//! Training a classifier with Burn's learner: recipe, checkpoints, progress, resumption.
//!
//! [`train`] runs one model in one folder. An epoch's checkpoint counts only once it is complete, so a run that was
//! killed at any moment resumes from its last whole epoch; a run that was interrupted saves its weights as they are.

mod checkpoint;
mod error;
mod evaluation;
mod folder;
mod learner;
mod recipe;
mod renderer;
mod search;
mod steps;
mod timing;

pub use burn::train::Interrupter;
pub use checkpoint::last_complete_epoch;
pub use error::TrainingError;
pub use evaluation::{Evaluation, evaluate};
pub use folder::{RunFolder, RunSettings, Start};
pub use learner::{RunResult, train};
pub use recipe::Recipe;
pub use renderer::LineRenderer;
pub use search::{Trial, best_learning_rate, search_learning_rate};
