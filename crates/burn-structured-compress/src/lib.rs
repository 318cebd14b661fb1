//! Finds the structured matrices nearest to given dense ones.
//!
//! Structured layers can be trained from scratch; more often there is a trained dense model, and the question is which
//! structured weights stand for its own best.
//!
//! - [`approximate`] puts a layer of any structure in the place of a dense weight.
//! - [`factorize`] is the optimisation behind BLAST, on any device, with its methods to choose from.
//! - [`calibrate`] gathers what a model's layers are fed, so that distances are those of outputs.
//! - [`project`] holds the closed forms for known inputs.
//! - [`budget`] spreads a number of parameters over the layers of a model.
//! - [`report`] draws what happened.

mod approximate;
pub mod budget;
pub mod calibrate;
mod error;
pub mod factorize;
mod file;
pub mod project;
pub mod report;
mod spectrum;
mod svd;

pub use approximate::approximate;
pub use error::CompressError;
pub use spectrum::Spectrum;
