//! Models built from structured layers, the data they are trained on, and the recipes that train them.
//!
//! [`vit`] is a vision transformer and [`bert`] a sentence encoder, whose linear layers each take a `Structure`; [`data`]
//! reads CIFAR, image folders and a built-in synthetic set; [`training`] runs Burn's training loop with checkpoints that
//! survive a kill; [`comparison`] sets several structures side by side as a table, JSON and a plot.

pub mod bert;
pub mod comparison;
pub mod data;
pub mod training;
pub mod vit;
