//! What a compressed checkpoint says of itself.

use crate::error::printable;
use crate::header::is_name;
use crate::unique::Unique;
use crate::{Checkpoint, CheckpointError, Orientation};
use safetensors::Dtype;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The metadata entry that holds a [`Manifest`].
pub const MANIFEST_KEY: &str = "burn_structured";
/// The format that is written, and the newest one that is read.
pub const FORMAT: u64 = 1;
/// The longest side of a layer, and the most entries of its dense weight, 128 GiB of f32: more than any model's.
const MAX_SIDE: usize = 1 << 24;
const MAX_DENSE: usize = 1 << 35;

/// Which layers of a checkpoint are compressed and how: JSON in the metadata entry [`MANIFEST_KEY`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u64,
    /// The program that wrote the checkpoint, with its version.
    pub tool: String,
    /// The seed of everything random in the compression.
    pub seed: u64,
    /// The [fingerprint](Checkpoint::fingerprint) of the dense checkpoint, if there was one.
    #[serde(default)]
    pub source: Option<String>,
    /// The compressed layers by name, with every prefix as in the dense checkpoint: `encoder.layer.0.intermediate.dense`.
    #[serde(deserialize_with = "unique")]
    pub layers: BTreeMap<String, LayerEntry>,
}

/// A compressed layer. Its factors are the tensors `<layer>.u` and so on, its bias is `<layer>.bias`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// The text form of a `burn_structured_nn::Structure`, with its rank as a number: `blast:b=6x6,r=144`.
    pub structure: String,
    /// Whether its weights are int8: each factor `<layer>.u` has a scale for every output, `<layer>.u_scale`, and a dense weight is the
    /// factor `<layer>.w`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub int8: bool,
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The orientation of the dense weight.
    pub orientation: Orientation,
    /// The type of the dense weight as safetensors spells it: `F32`, `BF16`.
    pub dtype: String,
    /// `‖W − Ŵ‖ / ‖W‖` of the dense weight, if it was measured.
    #[serde(default)]
    pub relative_error: Option<f64>,
}

fn unique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, LayerEntry>, D::Error> {
    Unique::deserialize(deserializer).map(|layers| layers.0)
}

impl Manifest {
    /// A manifest of this crate's format without layers.
    pub fn new(tool: impl Into<String>, seed: u64) -> Self {
        Self { format: FORMAT, tool: tool.into(), seed, source: None, layers: BTreeMap::new() }
    }

    /// Adds the manifest to the metadata of a file that is to be [written](fn@crate::write).
    pub fn insert_into(&self, metadata: &mut BTreeMap<String, String>) {
        // Strings, integers and finite floats always serialise; a float that is not finite becomes `null`.
        let text = serde_json::to_string(self).unwrap_or_default();
        metadata.insert(MANIFEST_KEY.to_string(), text);
    }

    /// The manifest in `text`, checked against the checkpoint that it describes.
    pub(crate) fn read(text: &str, checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let path = checkpoint.path();
        let invalid =
            |error: serde_json::Error| CheckpointError::Manifest { path: path.to_owned(), reason: printable(error) };
        let Version { format } = serde_json::from_str(text).map_err(invalid)?;
        if format != FORMAT {
            return Err(CheckpointError::Format { path: path.to_owned(), format, newest: FORMAT });
        }
        let manifest: Self = serde_json::from_str(text).map_err(invalid)?;
        for (layer, entry) in &manifest.layers {
            entry.check(layer, checkpoint).map_err(|reason| CheckpointError::Layer {
                path: path.to_owned(),
                layer: layer.escape_debug().to_string(),
                reason,
            })?;
        }
        Ok(manifest)
    }
}

impl LayerEntry {
    /// What can be checked without knowing the structures.
    fn check(&self, layer: &str, checkpoint: &Checkpoint) -> Result<(), String> {
        let Self { d_input, d_output, .. } = *self;
        if !is_name(layer) {
            return Err("has no valid name; names have no control characters and are not empty".into());
        }
        let side = |size: usize| (1..=MAX_SIDE).contains(&size);
        if !side(d_input) || !side(d_output) || d_input.saturating_mul(d_output) > MAX_DENSE {
            return Err(format!("is said to be {d_input} → {d_output}, which no layer is; compress the model again"));
        }
        if self.dtype().is_none() {
            return Err(format!(
                "is said to have been {:?}, which is no number type; compress the model again",
                self.dtype
            ));
        }
        if self.relative_error.is_some_and(|error| error < 0.0) {
            return Err("has a negative error; compress the model again".into());
        }
        if checkpoint.tensor(&format!("{layer}.weight")).is_some() {
            return Err("has both a dense weight and a description of factors; compress the model again".into());
        }
        if !checkpoint.tensors_of(layer).any(|(factor, _)| factor != "bias") {
            return Err("has no factors in the file; compress the model again".into());
        }
        Ok(())
    }

    /// The type of the dense weight; `None` if safetensors has no such type.
    pub fn dtype(&self) -> Option<Dtype> {
        serde_json::from_value(serde_json::Value::String(self.dtype.clone())).ok()
    }
}
