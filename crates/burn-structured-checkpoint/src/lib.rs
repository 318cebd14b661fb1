//! Checkpoints of compressed models: safetensors files that say of themselves which structure each layer has.
//!
//! [`Checkpoint`] reads a file, a folder, or the shards of an index, memory-mapped and checked as a whole when it is opened.
//! [`Manifest`] is what a compressed checkpoint says about itself, [`linears`] finds the linear layers of a model by the names of
//! its tensors, [`write`](fn@write) leaves files that are complete or absent, and [`authors`] reads the layouts of other
//! implementations.
//!
//! # The format
//!
//! A compressed checkpoint is a safetensors file. A compressed layer has its factors under its own name,
//! `encoder.layer.0.intermediate.dense.u`, in place of `encoder.layer.0.intermediate.dense.weight`; its bias, and all other
//! tensors, are those of the dense checkpoint. The metadata entry `burn_structured` is the [`Manifest`] as JSON:
//!
//! ```json
//! {
//!   "format": 1,
//!   "tool": "burn-structured 0.1.0",
//!   "seed": 0,
//!   "source": "9f86d081…",
//!   "layers": {
//!     "encoder.layer.0.intermediate.dense": {
//!       "structure": "blast:b=6x6,r=144", "d_input": 384, "d_output": 1536, "orientation": "out_in", "dtype": "F32",
//!       "relative_error": 0.31
//!     }
//!   }
//! }
//! ```
//!
//! # A model of one's own
//!
//! With the feature `burn`, which is on by default, [`layer`] reads a layer of any structure:
//!
//! ```no_run
//! # use burn::tensor::Device;
//! # use burn_structured_checkpoint as checkpoint;
//! # use burn_structured_nn::StructuredLinear;
//! # struct Model;
//! # impl Model { fn linears_mut(&mut self) -> Vec<(String, &mut StructuredLinear)> { Vec::new() } }
//! # fn load(mut model: Model, device: Device) -> Result<(), checkpoint::CheckpointError> {
//! use checkpoint::Checkpoint;
//!
//! let file = Checkpoint::open("out")?;
//! for (name, layer) in model.linears_mut() {
//!     *layer = checkpoint::layer(&file, &name, &device)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The model's other tensors are read with [`tensor`], or by `burn-store` as from any safetensors file.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod authors;
mod checkpoint;
mod error;
// For the crates of this workspace; not part of the public interface.
#[doc(hidden)]
pub mod files;
mod header;
mod index;
#[cfg(feature = "burn")]
mod layers;
mod manifest;
mod names;
mod palette;
mod source;
mod state_dict;
mod unique;
mod values;
mod write;

pub use checkpoint::{Checkpoint, TensorInfo};
pub use error::CheckpointError;
#[cfg(feature = "burn")]
pub use layers::{INT8_AXES, dense_layer, dense_tensor, layer, layer_entry, layer_tensors, tensor};
pub use manifest::{FORMAT, LayerEntry, MANIFEST_KEY, Manifest};
pub use names::{BlockName, Family, LinearInfo, Orientation, family, linears};
#[doc(hidden)]
pub use palette::PALETTE;
pub use safetensors::Dtype;
pub use state_dict::StateDict;
pub use write::{TensorData, write};
