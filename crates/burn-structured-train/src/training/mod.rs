//! Training a classifier with Burn's learner: recipe, checkpoints, progress, resumption.
//!
//! [`train`] runs one model in one folder, which it locks. A killed run resumes from its last complete epoch; an interrupted
//! one also saves its current weights.

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
