//! Weights between a model and the checkpoints of Hugging Face's layout.
//!
//! A layer that is not dense has its factors under its own name, `h.0.mlp.c_fc.u`, in the place of its weight, and the file's
//! [`Manifest`](burn_structured_checkpoint::Manifest) says which structure that is. A model only says how its tensors are named.

mod error;
mod layout;
mod load;
mod names;
mod save;

pub use error::WeightsError;
pub(crate) use load::load;
pub(crate) use names::Names;
pub(crate) use save::{all_weights, block_weights, structure_of, write_folder};

use burn_store::ModuleSnapshot;
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::StructuredLinear;

/// A model that checkpoints hold.
pub(crate) trait CheckpointModel: ModuleSnapshot {
    /// The names of its tensors.
    const NAMES: Names;
    /// What is put before every name in a checkpoint that is written.
    const SAVED_PREFIX: &'static str;

    /// How the dense weight of a linear layer is stored, by the name of the layer.
    fn orientation(layer: &str) -> Orientation;

    /// Whether a dense layer of this name has a bias.
    fn has_bias(layer: &str) -> bool;

    /// The layers that may have any structure, with their names.
    fn layers(&self) -> Vec<(String, &StructuredLinear)>;

    /// [`layers`](Self::layers), to be replaced.
    fn layers_mut(&mut self) -> Vec<(String, &mut StructuredLinear)>;
}
