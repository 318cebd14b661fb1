//! Models whose linear layers each take a `Structure`: [`vit`], a vision transformer, and [`bert`], a sentence encoder.
//!
//! Modules and the names of their checkpoints only; training them is the crate `burn-structured-train`.

pub mod bert;
pub mod vit;
