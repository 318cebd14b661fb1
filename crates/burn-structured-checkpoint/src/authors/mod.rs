//! The layouts in which the authors of the structures save their own layers.
//!
//! [`blast`] turns a checkpoint of BLAST layers (Lee, Kwon, Qu, Kim, NeurIPS 2024) into tensors and descriptions to be
//! [written](fn@crate::write). [`ss1`] builds one SS1 layer (Saedi et al., NeurIPS 2024) from stored weights and the settings that
//! their code keeps outside of the file.

mod blast;
#[cfg(feature = "burn")]
mod ss1;

pub use blast::{CouplingOrder, blast};
#[cfg(feature = "burn")]
pub use ss1::ss1;
