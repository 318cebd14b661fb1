//! Tensors on their way between models and files.

use crate::{LayerEntry, TensorData};
use std::collections::BTreeMap;

/// Tensors of a model, or of one of its blocks, under a checkpoint's names, and what a manifest says of them: what
/// [`write`](fn@crate::write) and [`Manifest::layers`](crate::Manifest::layers) take.
#[derive(Clone, Debug, Default)]
pub struct StateDict<'a> {
    /// The tensors, in the layout of the checkpoint: factors of compressed layers, weights of dense ones, biases, norms.
    pub tensors: Vec<TensorData<'a>>,
    /// The layers that are not dense, by name.
    pub layers: BTreeMap<String, LayerEntry>,
}
