//! The names that checkpoints give to the tensors, and the paths of the same tensors in [`Gpt2`].

use crate::gpt2::{Gpt2, linear_names};
use crate::weights::{CheckpointModel, Names};
use burn_structured_checkpoint::Orientation;
use burn_structured_nn::StructuredLinear;

/// The layer that turns features into logits.
pub(super) const HEAD: &str = "lm_head";

impl CheckpointModel for Gpt2 {
    const NAMES: Names = Names {
        // In checkpoints of the model with its head.
        prefix: "transformer.",
        unprefixed: Some("lm_head."),
        model: &[
            ("wte.", "tokens."),
            ("wpe.", "positions."),
            ("ln_f.weight", "norm.gamma"),
            ("ln_f.bias", "norm.beta"),
            ("lm_head.", "head."),
        ],
        blocks: ("h.", "blocks."),
        block: &[
            ("ln_1.weight", "norm1.gamma"),
            ("ln_1.bias", "norm1.beta"),
            ("attn.c_attn.", "attention.qkv."),
            ("attn.c_proj.", "attention.proj."),
            ("ln_2.weight", "norm2.gamma"),
            ("ln_2.bias", "norm2.beta"),
            ("mlp.c_fc.", "fc1."),
            ("mlp.c_proj.", "fc2."),
        ],
        aliases: &[],
        // The causal mask, and what it fills scores with.
        buffers: &["attn.bias", "attn.masked_bias"],
    };
    const SAVED_PREFIX: &'static str = "transformer.";

    /// A dense layer of a block is a `Conv1D`, the head a `Linear`.
    fn orientation(layer: &str) -> Orientation {
        if layer == HEAD { Orientation::OutIn } else { Orientation::InOut }
    }

    fn has_bias(layer: &str) -> bool {
        layer != HEAD
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
        let names = Gpt2::NAMES;
        for (name, path) in [
            ("wte.weight", "tokens.weight"),
            ("wpe.weight", "positions.weight"),
            ("ln_f.weight", "norm.gamma"),
            ("ln_f.bias", "norm.beta"),
            ("h.11.ln_1.weight", "blocks.11.norm1.gamma"),
            ("h.0.ln_2.bias", "blocks.0.norm2.beta"),
            ("h.0.attn.c_attn.weight", "blocks.0.attention.qkv.weight"),
            ("h.3.attn.c_proj.bias", "blocks.3.attention.proj.bias"),
            ("h.2.mlp.c_fc.u", "blocks.2.fc1.u"),
            ("h.2.mlp.c_proj.hash", "blocks.2.fc2.hash"),
            ("lm_head.weight", "head.weight"),
        ] {
            assert_eq!(names.module_path(name).as_deref(), Some(path));
            assert_eq!(names.name(path), name);
        }
        assert_eq!(names.with_prefix("ln_f.weight", "transformer."), "transformer.ln_f.weight");
        assert_eq!(names.with_prefix("lm_head.weight", "transformer."), "lm_head.weight");
    }

    #[test]
    fn other_names_have_no_path() {
        for name in ["h.0.attn.bias", "h.0.attn.masked_bias", "h.x.ln_1.weight", "h.0.ln_3.weight", "score.weight"] {
            assert_eq!(Gpt2::NAMES.module_path(name), None, "{name}");
        }
        assert!(Gpt2::NAMES.is_buffer("h.10.attn.bias") && Gpt2::NAMES.is_buffer("h.0.attn.masked_bias"));
        assert!(!Gpt2::NAMES.is_buffer("h.0.attn.c_attn.bias") && !Gpt2::NAMES.is_buffer("attn.bias"));
    }
}
