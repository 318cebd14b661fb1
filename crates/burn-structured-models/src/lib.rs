//! Models whose linear layers each take a `Structure`: [`vit`], a vision transformer, [`mixer`], an MLP-Mixer, [`dit`], a diffusion
//! transformer, [`dlrm`], a click model, [`gpt2`] and [`llama`], language models, and [`bert`], a sentence encoder. Language models
//! read and write [`text`], and what they share is [`decoder`]. They and BERT are read from and written to checkpoints, compressed or
//! not, of the crate `burn-structured-checkpoint`.
//!
//! Modules and the names of their checkpoints only; training them is the crate `burn-structured-train`.

pub mod bert;
mod cost;
pub mod decoder;
pub mod dit;
pub mod dlrm;
mod drop_path;
mod error;
pub mod gpt2;
mod layers;
pub mod llama;
pub mod mixer;
mod patches;
mod residual;
#[cfg(test)]
mod testing;
pub mod text;
pub mod vit;
mod weights;

pub use cost::ItemCost;
pub use error::ModelError;
pub use weights::WeightsError;
