//! The names that BERT's checkpoints give to the tensors, and the paths of the same tensors in [`Bert`].

use super::Bert;
use crate::weights::{CheckpointModel, Names};
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::StructuredLinear;

/// The six linear layers of a layer, in the order of [`Layer::linears`](super::Layer::linears).
const LINEARS: [&str; 6] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

impl CheckpointModel for Bert {
    const NAMES: Names = Names {
        prefix: "bert.",
        unprefixed: None,
        model: &[
            ("embeddings.word_embeddings.", "embeddings.words."),
            ("embeddings.position_embeddings.", "embeddings.positions."),
            ("embeddings.token_type_embeddings.", "embeddings.token_types."),
            ("embeddings.LayerNorm.weight", "embeddings.norm.gamma"),
            ("embeddings.LayerNorm.bias", "embeddings.norm.beta"),
        ],
        blocks: ("encoder.layer.", "layers."),
        block: &[
            ("attention.self.query.", "attention.query."),
            ("attention.self.key.", "attention.key."),
            ("attention.self.value.", "attention.value."),
            ("attention.output.dense.", "attention.output."),
            ("intermediate.dense.", "intermediate."),
            ("output.dense.", "output."),
            ("attention.output.LayerNorm.weight", "attention_norm.gamma"),
            ("attention.output.LayerNorm.bias", "attention_norm.beta"),
            ("output.LayerNorm.weight", "output_norm.gamma"),
            ("output.LayerNorm.bias", "output_norm.beta"),
        ],
        // Checkpoints converted from TensorFlow.
        aliases: &[("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")],
        buffers: &[],
    };
    /// As the checkpoints of sentence encoders.
    const SAVED_PREFIX: &'static str = "";

    fn orientation(_layer: &str) -> Orientation {
        Orientation::OutIn
    }

    fn has_bias(_layer: &str) -> bool {
        true
    }

    fn layers(&self) -> Vec<(String, &StructuredLinear)> {
        self.linears().collect()
    }

    fn layers_mut(&mut self) -> Vec<(String, &mut StructuredLinear)> {
        self.linears_mut().collect()
    }
}

/// The checkpoint's names of a layer's six linear layers, without `.weight` or `.bias`.
pub(super) fn linear_names(layer: usize) -> [String; 6] {
    LINEARS.map(|linear| format!("encoder.layer.{layer}.{linear}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_each_others_inverse() {
        let names = Bert::NAMES;
        for (name, path) in [
            ("embeddings.word_embeddings.weight", "embeddings.words.weight"),
            ("embeddings.LayerNorm.bias", "embeddings.norm.beta"),
            ("encoder.layer.11.attention.self.query.weight", "layers.11.attention.query.weight"),
            ("encoder.layer.0.attention.output.dense.bias", "layers.0.attention.output.bias"),
            ("encoder.layer.0.attention.output.LayerNorm.weight", "layers.0.attention_norm.gamma"),
            ("encoder.layer.2.intermediate.dense.u", "layers.2.intermediate.u"),
            ("encoder.layer.2.output.dense.weight", "layers.2.output.weight"),
            ("encoder.layer.2.output.LayerNorm.weight", "layers.2.output_norm.gamma"),
        ] {
            assert_eq!(names.module_path(name).as_deref(), Some(path));
            assert_eq!(names.module_path(&format!("bert.{name}")).as_deref(), Some(path));
            assert_eq!(names.name(path), name);
        }
        let old = names.module_path("bert.encoder.layer.3.output.LayerNorm.gamma");
        assert_eq!(old.as_deref(), Some("layers.3.output_norm.gamma"));
        assert_eq!(linear_names(4)[3], "encoder.layer.4.attention.output.dense");
    }

    #[test]
    fn other_names_have_no_path() {
        for name in ["pooler.dense.weight", "embeddings.position_ids", "encoder.layer.x.output.dense.weight"] {
            assert_eq!(Bert::NAMES.module_path(name), None, "{name}");
        }
    }
}
