//! What every kind of training run has: a folder, checkpoints, progress, interruption and a search for the learning rate.
//!
//! A run belongs to one folder, which it locks. A killed run resumes from its last complete epoch; an interrupted one also
//! saves its current weights. What a run trains is up to [`vision`](crate::vision) and [`language`](crate::language).

mod checkpoint;
mod error;
mod folder;
mod rates;
mod renderer;
mod run;
mod search;
mod timing;

pub use burn::train::Interrupter;
pub use error::TrainingError;
pub use folder::{RunFolder, Settings, Start};
pub use renderer::Pass;

#[cfg(test)]
pub(crate) use checkpoint::RECORDS;
pub(crate) use checkpoint::load;
pub(crate) use folder::Prepared;
pub(crate) use rates::check_factor_rates;
pub(crate) use renderer::LineRenderer;
pub(crate) use run::{Run, Trained};
pub(crate) use search::{lowest_best, run_trials};
pub(crate) use timing::Timing;
