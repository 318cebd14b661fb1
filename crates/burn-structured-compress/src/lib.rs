//! Compression of trained dense layers: approximation and factorization of their weights by structured matrices.
//!
//! - [`approximate()`] replaces a dense weight by a layer of any structure; [`mod@approximate`] holds the closed forms.
//! - [`factorize`] optimises the factors of BLAST matrices, on any device, by several methods.
//! - [`calibrate`] collects the second moments of a model's inputs, so that errors are those of outputs.
//! - [`budget`] distributes a number of parameters over the layers of a model.
//! - [`sequential`] compresses a model block after block, each layer fitted to the inputs that the compressed ones before it give.
//! - [`refine`] trains a compressed block to give the dense one's outputs, [`distill`] the whole model.
//! - [`mod@drop`] leaves whole blocks out, the baseline.
//! - [`plan`] says which structure each layer of a checkpoint gets, and proposes that for a size.
//! - [`pipeline`] carries a plan out, and continues after whatever interrupts it.
//! - [`report`] makes pages and plots of what became of a model.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_compress::{approximate, factorize::FactorizerConfig};
//!
//! let weight = Tensor::<2>::random([24, 16], Distribution::Normal(0.0, 1.0), &Device::flex());
//! let found = approximate("blast:b=4,ratio=0.5".parse()?, weight, None, None, &FactorizerConfig::new())?;
//! println!("{}: relative error {:.3}", found.layer, found.relative_error);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A whole checkpoint takes a plan and a run, see [`pipeline`].

pub mod approximate;
pub mod budget;
pub mod calibrate;
pub mod distill;
pub mod drop;
mod error;
pub mod factorize;
mod names;
mod optimize;
pub mod pipeline;
pub mod plan;
pub mod refine;
pub mod report;
pub mod sequential;
mod spectrum;
mod svd;
#[cfg(test)]
mod toy;

pub use approximate::approximate;
pub use error::CompressError;
pub use optimize::{Budget, TrainingStep};
pub use spectrum::Spectrum;
