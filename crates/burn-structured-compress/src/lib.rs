//! Compression of trained dense layers: approximation and factorization of their weights by structured matrices.
//!
//! - [`approximate()`] replaces a dense weight by a layer of any structure; [`mod@approximate`] holds the closed forms.
//! - [`factorize`] optimises the factors of BLAST matrices, on any device, by several methods.
//! - [`calibrate`] collects the second moments of a model's inputs, so that errors are those of outputs.
//! - [`budget`] distributes a number of parameters over the layers of a model.
//! - [`report`] plots convergence.

pub mod approximate;
pub mod budget;
pub mod calibrate;
mod error;
pub mod factorize;
mod file;
pub mod report;
mod spectrum;
mod svd;

pub use approximate::approximate;
pub use error::CompressError;
pub use spectrum::Spectrum;
