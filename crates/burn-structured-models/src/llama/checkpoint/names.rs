//! The names that checkpoints give to the tensors, and the paths of the same tensors in [`Llama`].

use crate::llama::{Llama, linear_names};
use crate::weights::{CheckpointModel, Names};
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::StructuredLinear;

/// The layer that turns features into logits.
pub(super) const HEAD: &str = "lm_head";

impl CheckpointModel for Llama {
    const NAMES: Names = Names {
        // In checkpoints of the model with its head.
        prefix: "model.",
        unprefixed: Some("lm_head."),
        model: &[("embed_tokens.", "tokens."), ("norm.weight", "norm.gamma"), ("lm_head.", "head.")],
        blocks: ("layers.", "blocks."),
        block: &[
            ("input_layernorm.weight", "norm1.gamma"),
            ("self_attn.q_proj.", "attention.query."),
            ("self_attn.k_proj.", "attention.key."),
            ("self_attn.v_proj.", "attention.value."),
            ("self_attn.o_proj.", "attention.proj."),
            ("post_attention_layernorm.weight", "norm2.gamma"),
            ("mlp.gate_proj.", "gate."),
            ("mlp.up_proj.", "up."),
            ("mlp.down_proj.", "down."),
        ],
        aliases: &[],
        // The frequencies of the rotary embeddings.
        buffers: &["self_attn.rotary_emb.inv_freq"],
    };
    const SAVED_PREFIX: &'static str = "model.";

    fn orientation(_layer: &str) -> Orientation {
        Orientation::OutIn
    }

    fn has_bias(_layer: &str) -> bool {
        false
    }

    fn layers(&self) -> Vec<(String, &StructuredLinear)> {
        self.linears().chain(self.head.iter().map(|head| (HEAD.to_string(), head))).collect()
    }

    fn layers_mut(&mut self) -> Vec<(String, &mut StructuredLinear)> {
        let blocks = self.blocks.iter_mut().enumerate();
        let layers = blocks.flat_map(|(index, block)| linear_names(index).into_iter().zip(block.linears_mut()));
        layers.chain(self.head.iter_mut().map(|head| (HEAD.to_string(), head))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_each_others_inverse() {
        let names = Llama::NAMES;
        for (name, path) in [
            ("embed_tokens.weight", "tokens.weight"),
            ("norm.weight", "norm.gamma"),
            ("layers.11.input_layernorm.weight", "blocks.11.norm1.gamma"),
            ("layers.0.post_attention_layernorm.weight", "blocks.0.norm2.gamma"),
            ("layers.0.self_attn.q_proj.weight", "blocks.0.attention.query.weight"),
            ("layers.3.self_attn.o_proj.u", "blocks.3.attention.proj.u"),
            ("layers.2.mlp.gate_proj.hash", "blocks.2.gate.hash"),
            ("layers.2.mlp.down_proj.weight", "blocks.2.down.weight"),
            ("lm_head.weight", "head.weight"),
        ] {
            assert_eq!(names.module_path(name).as_deref(), Some(path));
            assert_eq!(names.name(path), name);
        }
        assert_eq!(names.module_path("model.norm.weight").as_deref(), Some("norm.gamma"));
        assert_eq!(names.with_prefix("norm.weight", "model."), "model.norm.weight");
        assert_eq!(names.with_prefix("lm_head.weight", "model."), "lm_head.weight");
    }

    #[test]
    fn other_names_have_no_path() {
        for name in ["layers.x.mlp.up_proj.weight", "layers.0.self_attn.q_norm.weight", "score.weight"] {
            assert_eq!(Llama::NAMES.module_path(name), None, "{name}");
        }
        assert!(Llama::NAMES.is_buffer("layers.10.self_attn.rotary_emb.inv_freq"));
        assert!(!Llama::NAMES.is_buffer("layers.0.self_attn.q_proj.bias"));
    }
}
