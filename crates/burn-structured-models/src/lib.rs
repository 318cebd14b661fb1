//! Models whose linear layers each take a `Structure`: [`vit`], a vision transformer, [`gpt2`], a language model, and [`bert`], a
//! sentence encoder. Language models read and write [`text`].
//!
//! Modules and the names of their checkpoints only; training them is the crate `burn-structured-train`.

pub mod bert;
mod files;
pub mod gpt2;
mod misfit;
pub mod text;
pub mod vit;
