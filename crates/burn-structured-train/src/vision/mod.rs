//! Training a vision transformer or an MLP-Mixer as a classifier.
//!
//! [`train`] runs one model in one [`RunFolder`](crate::training::RunFolder).

mod evaluation;
mod learner;
mod model;
mod recipe;
mod search;
mod settings;
mod steps;

pub use evaluation::{Evaluation, evaluate};
pub use learner::train;
pub use model::{ClassifierConfig, ImageClassifier};
pub use recipe::Recipe;
pub use search::{Trial, best_learning_rate, search_learning_rate};
pub use settings::{RunResult, RunSettings};
