//! Models whose linear layers each take a `Structure`: [`vit`], a vision transformer, [`gpt2`] and [`llama`], language
//! models, and [`bert`], a sentence encoder. Language models read and write [`text`], and what they share is [`decoder`]. All but the
//! vision transformer are read from and written to checkpoints, compressed or not, of the crate `burn-structured-checkpoint`.
//!
//! Modules and the names of their checkpoints only; training them is the crate `burn-structured-train`.

pub mod bert;
pub mod decoder;
pub mod gpt2;
pub mod llama;
mod residual;
#[cfg(test)]
mod testing;
pub mod text;
pub mod vit;
mod weights;

pub use weights::WeightsError;
