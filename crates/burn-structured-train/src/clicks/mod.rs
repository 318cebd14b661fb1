//! Training a click model, and measuring it.
//!
//! [`train_clicks`] trains a [`Dlrm`](burn_structured_models::dlrm::Dlrm) on [generated clicks](crate::data::clicks), [`evaluate_clicks`]
//! measures how well it ranks held-out ones, and [`component_times`] where its time goes.

mod auc;
mod evaluation;
mod learner;
mod recipe;

pub use auc::auc;
pub use evaluation::{ClickEvaluation, ComponentTimes, component_times, evaluate_clicks};
pub use learner::{ClickStep, TrainedDlrm, train_clicks};
pub use recipe::ClickRecipe;
