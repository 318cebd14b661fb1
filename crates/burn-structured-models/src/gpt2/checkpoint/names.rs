//! The names that checkpoints give to the tensors, and the paths of the same tensors in [`Gpt2`](crate::gpt2::Gpt2).

/// What checkpoints of the model with its head put before every name but the head's.
pub(super) const PREFIX: &str = "transformer.";

/// Outside of the blocks: how a checkpoint's name begins, and the path.
const MODEL: [(&str, &str); 5] = [
    ("wte.", "tokens."),
    ("wpe.", "positions."),
    ("ln_f.weight", "norm.gamma"),
    ("ln_f.bias", "norm.beta"),
    ("lm_head.", "head."),
];

/// Inside of a block: how the rest of a checkpoint's name begins, and the rest of the path.
const BLOCK: [(&str, &str); 8] = [
    ("ln_1.weight", "norm1.gamma"),
    ("ln_1.bias", "norm1.beta"),
    ("attn.c_attn.", "attention.qkv."),
    ("attn.c_proj.", "attention.proj."),
    ("ln_2.weight", "norm2.gamma"),
    ("ln_2.bias", "norm2.beta"),
    ("mlp.c_fc.", "fc1."),
    ("mlp.c_proj.", "fc2."),
];

/// The path of the tensor that a checkpoint calls `name`, without [`PREFIX`]; `None` if no model has it.
pub(super) fn module_path(name: &str) -> Option<String> {
    let Some((block, rest)) = in_block(name, "h.") else { return renamed(name, MODEL) };
    Some(format!("blocks.{block}.{}", renamed(rest, BLOCK)?))
}

/// The name in a checkpoint, without [`PREFIX`], of the tensor at a module path.
pub(super) fn checkpoint_name(path: &str) -> String {
    let swapped = |(name, path)| (path, name);
    let name = match in_block(path, "blocks.") {
        None => renamed(path, MODEL.map(swapped)),
        Some((block, rest)) => renamed(rest, BLOCK.map(swapped)).map(|name| format!("h.{block}.{name}")),
    };
    name.unwrap_or_else(|| path.to_string())
}

/// [`checkpoint_name`] with [`PREFIX`] where it belongs.
pub(super) fn full_name(path: &str) -> String {
    let name = checkpoint_name(path);
    if name.starts_with("lm_head.") { name } else { format!("{PREFIX}{name}") }
}

/// Whether older checkpoints hold a tensor of this name that is no weight: the causal mask, and what it fills scores with.
pub(super) fn is_buffer(name: &str) -> bool {
    in_block(name, "h.").is_some_and(|(_, rest)| matches!(rest, "attn.bias" | "attn.masked_bias"))
}

/// The number of the block and what follows it.
fn in_block<'a>(name: &'a str, start: &str) -> Option<(usize, &'a str)> {
    let (block, rest) = name.strip_prefix(start)?.split_once('.')?;
    Some((block.parse().ok()?, rest))
}

fn renamed<const N: usize>(name: &str, table: [(&str, &str); N]) -> Option<String> {
    table.into_iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_each_others_inverse() {
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
            assert_eq!(module_path(name).as_deref(), Some(path));
            assert_eq!(checkpoint_name(path), name);
        }
        assert_eq!(full_name("norm.gamma"), "transformer.ln_f.weight");
        assert_eq!(full_name("head.weight"), "lm_head.weight");
    }

    #[test]
    fn other_names_have_no_path() {
        for name in ["h.0.attn.bias", "h.0.attn.masked_bias", "h.x.ln_1.weight", "h.0.ln_3.weight", "score.weight"] {
            assert_eq!(module_path(name), None, "{name}");
        }
        assert!(is_buffer("h.10.attn.bias") && is_buffer("h.0.attn.masked_bias"));
        assert!(!is_buffer("h.0.attn.c_attn.bias") && !is_buffer("attn.bias"));
    }
}
