//! The linear layers of a model, found by the names of its tensors.

mod blocks;
mod other;
mod tables;

pub use blocks::BlockName;

use crate::Checkpoint;
use crate::values::is_float;
use serde::{Deserialize, Serialize};
use std::fmt;
use tables::{Place, TABLES, Table};

/// The order of the axes of a dense weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// `[d_output, d_input]`, as PyTorch's `Linear`.
    OutIn,
    /// `[d_input, d_output]`, as Burn's `Linear` and GPT-2's `Conv1D`.
    InOut,
}

/// Whose names a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Hugging Face's BERT and RoBERTa: `encoder.layer.0.attention.self.query`.
    Bert,
    /// GPT-2: `h.0.attn.c_attn`.
    Gpt2,
    /// Vision transformers of Hugging Face, `encoder.layer.0.attention.attention.query`, and of `timm`, `blocks.0.attn.qkv`.
    Vit,
    /// Llama and its relatives: `model.layers.0.mlp.gate_proj`.
    Llama,
    /// Any other, or several of them.
    Other,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bert => "BERT",
            Self::Gpt2 => "GPT-2",
            Self::Vit => "ViT",
            Self::Llama => "Llama",
            Self::Other => "other",
        })
    }
}

/// A dense linear layer of a [`Checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinearInfo {
    /// Its name, with every prefix: `encoder.layer.0.intermediate.dense`.
    pub name: String,
    /// The name of its weight.
    pub weight: String,
    /// The name of its bias, if it has one.
    pub bias: Option<String>,
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The orientation of the weight.
    pub orientation: Orientation,
    /// The position of its block, if its name says so.
    pub block: Option<usize>,
    /// Whether it is several layers of one input in one: query, key and value, or gate and up.
    pub fused: bool,
}

/// Whose names the tensors have; factors of compressed layers count as the weights that they replace.
pub fn family(checkpoint: &Checkpoint) -> Family {
    let mut found = None;
    for tensor in checkpoint.tensors() {
        let Some((layer, _)) = tensor.name.rsplit_once('.') else { continue };
        let Some(table) = TABLES.iter().find(|table| table.signs(layer)) else { continue };
        match found {
            Some(family) if family != table.family => return Family::Other,
            _ => found = Some(table.family),
        }
    }
    found.unwrap_or(Family::Other)
}

/// The dense linear layers, block after block, in the order in which a block applies them.
///
/// In a known family these are the layers inside of the blocks; embeddings, heads, poolers and norms are none. In an unknown one
/// they are all matrices named `*.weight` that are not embeddings by name, in the order of their names, with numbers compared as
/// numbers. The length of a bias tells the axes of a weight apart; where it does not, weights are `[d_output, d_input]`, but
/// `[d_input, d_output]` in files that Burn wrote. Matrices that are empty or of no float type are passed over, and so are
/// compressed layers, which the [manifest](Checkpoint::manifest) lists.
pub fn linears(checkpoint: &Checkpoint) -> Vec<LinearInfo> {
    let family = family(checkpoint);
    if family == Family::Other {
        return other::linears(checkpoint);
    }
    let mut found: Vec<(Place, LinearInfo)> = Vec::new();
    for tensor in checkpoint.tensors() {
        let Some(layer) = tensor.name.strip_suffix(".weight") else { continue };
        let mut tables = TABLES.iter().filter(|table| table.family == family);
        let Some(place) = tables.find_map(|table| table.locate(layer)) else { continue };
        if let Some(linear) = linear(checkpoint, layer) {
            let linear = LinearInfo { block: Some(place.block), fused: place.fused, ..linear };
            found.push((place, linear));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, linear)| linear).collect()
}

/// The dense layer of a name; `None` if its weight is not there, or no matrix of floats.
pub(crate) fn linear(checkpoint: &Checkpoint, name: &str) -> Option<LinearInfo> {
    let weight = checkpoint.tensor(&format!("{name}.weight"))?;
    let &[rows, columns] = weight.shape.as_slice() else { return None };
    if rows == 0 || columns == 0 || !is_float(weight.dtype) {
        return None;
    }
    let place = TABLES.iter().find_map(|table| Some((table.family, table.locate(name)?)));
    let orientation = match &place {
        Some((Family::Gpt2, _)) => gpt2_orientation(checkpoint),
        _ => orientation_by_bias(checkpoint, name, &weight.shape)
            .unwrap_or_else(|| if is_of_burn(checkpoint) { Orientation::InOut } else { Orientation::OutIn }),
    };
    let (d_input, d_output) = match orientation {
        Orientation::OutIn => (columns, rows),
        Orientation::InOut => (rows, columns),
    };
    let bias = format!("{name}.bias");
    let fits = checkpoint.tensor(&bias).is_some_and(|bias| bias.shape == [d_output]);
    Some(LinearInfo {
        name: name.to_string(),
        weight: weight.name.clone(),
        bias: fits.then_some(bias),
        d_input,
        d_output,
        orientation,
        block: place.as_ref().map(|(_, place)| place.block),
        fused: place.is_some_and(|(_, place)| place.fused),
    })
}

/// The orientation in which the bias has an entry for each output, if that is one and not both.
fn orientation_by_bias(checkpoint: &Checkpoint, layer: &str, weight: &[usize]) -> Option<Orientation> {
    let bias = checkpoint.tensor(&format!("{layer}.bias"))?;
    match (weight, &*bias.shape) {
        ([rows, columns], [entries]) if rows != columns && entries == rows => Some(Orientation::OutIn),
        ([rows, columns], [entries]) if rows != columns && entries == columns => Some(Orientation::InOut),
        _ => None,
    }
}

/// Whether Burn wrote the file and its weights are Burn's, `[d_input, d_output]`: its adapter for PyTorch transposes them.
fn is_of_burn(checkpoint: &Checkpoint) -> bool {
    if checkpoint.metadata().get("producer").is_none_or(|producer| producer != "burn") {
        return false;
    }
    let by_bias = checkpoint
        .tensors()
        .find_map(|tensor| orientation_by_bias(checkpoint, tensor.name.strip_suffix(".weight")?, &tensor.shape));
    by_bias != Some(Orientation::OutIn)
}

/// The orientation of weights with GPT-2's names: `[d_input, d_output]` as OpenAI's, unless a layer that widens its input has more
/// rows than columns, as in reimplementations with `Linear`.
fn gpt2_orientation(checkpoint: &Checkpoint) -> Orientation {
    let table: &Table = &tables::GPT2;
    let widening = |layer: &str| table.locate(layer).is_some_and(|place| tables::GPT2_WIDENING.contains(&place.module));
    let of_shape =
        checkpoint.tensors().find_map(|tensor| match (tensor.name.strip_suffix(".weight"), &*tensor.shape) {
            (Some(layer), [rows, columns]) if widening(layer) => {
                Some(if rows > columns { Orientation::OutIn } else { Orientation::InOut })
            }
            _ => None,
        });
    of_shape.unwrap_or_else(|| {
        let layers = checkpoint.manifest().ok().flatten().map(|manifest| manifest.layers).unwrap_or_default();
        let mut known = layers.into_iter().filter(|(layer, _)| table.locate(layer).is_some());
        known.next().map_or(Orientation::InOut, |(_, entry)| entry.orientation)
    })
}
