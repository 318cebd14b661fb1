//! What files are read and written, and what files are refused.

mod build;
mod files;
mod hostile;
#[cfg(feature = "burn")]
mod layers;
mod manifest;
mod names;
mod properties;
mod shards;
#[cfg(feature = "burn")]
mod structured;
