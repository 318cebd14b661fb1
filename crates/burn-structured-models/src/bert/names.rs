//! The names that BERT's checkpoints give to the tensors, and the paths of the same tensors in [`Bert`](super::Bert).

/// Inside `embeddings`: the checkpoint's name and the module's.
const EMBEDDINGS: [(&str, &str); 4] = [
    ("word_embeddings", "words"),
    ("position_embeddings", "positions"),
    ("token_type_embeddings", "token_types"),
    ("LayerNorm", "norm"),
];

/// Inside a layer: the checkpoint's name and the module's. The six linear layers come first, in the order of
/// [`Layer::linears`](super::Layer::linears).
const LAYER: [(&str, &str); 8] = [
    ("attention.self.query", "attention.query"),
    ("attention.self.key", "attention.key"),
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.output"),
    ("intermediate.dense", "intermediate"),
    ("output.dense", "output"),
    ("attention.output.LayerNorm", "attention_norm"),
    ("output.LayerNorm", "output_norm"),
];

/// Patterns and replacements that turn a checkpoint's names into module paths, with or without `bert.` in front; checkpoints
/// converted from TensorFlow call a norm's parameters `gamma` and `beta`.
pub(super) fn remapping() -> Vec<(String, String)> {
    let embeddings =
        EMBEDDINGS.map(|(name, path)| (format!(r"^(?:bert\.)?embeddings\.{name}\."), format!("embeddings.{path}.")));
    let layers = LAYER.map(|(name, path)| {
        let name = name.replace('.', r"\.");
        (format!(r"^(?:bert\.)?encoder\.layer\.(\d+)\.{name}\."), format!("layers.${{1}}.{path}."))
    });
    let norms = [(r"norm\.gamma$", "norm.weight"), (r"norm\.beta$", "norm.bias")];
    let norms = norms.map(|(from, to)| (from.to_string(), to.to_string()));
    embeddings.into_iter().chain(layers).chain(norms).collect()
}

/// The checkpoint's name of the tensor at a module path.
pub(super) fn checkpoint_name(path: &str) -> String {
    let rename = |table: &[(&str, &str)], rest: &str| {
        table.iter().find_map(|(name, path)| {
            let parameter = rest.strip_prefix(path)?.strip_prefix('.')?;
            Some(format!("{name}.{parameter}"))
        })
    };
    let name = if let Some(rest) = path.strip_prefix("embeddings.") {
        rename(&EMBEDDINGS, rest).map(|name| format!("embeddings.{name}"))
    } else {
        path.strip_prefix("layers.").and_then(|rest| {
            let (index, rest) = rest.split_once('.')?;
            Some(format!("encoder.layer.{index}.{}", rename(&LAYER, rest)?))
        })
    };
    name.unwrap_or_else(|| path.to_string())
}

/// The checkpoint's names of a layer's six linear layers, without `.weight` or `.bias`.
pub(super) fn linear_names(layer: usize) -> [String; 6] {
    std::array::from_fn(|linear| format!("encoder.layer.{layer}.{}", LAYER[linear].0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_store::KeyRemapper;

    #[test]
    fn names_and_paths_are_each_others_inverse() {
        let remapper = KeyRemapper::from_patterns(remapping()).unwrap();
        let module_path = |name: &str| {
            remapper.patterns.iter().fold(name.to_string(), |name, (pattern, replacement)| {
                pattern.replace_all(&name, replacement.as_str()).to_string()
            })
        };
        for (name, path) in [
            ("embeddings.word_embeddings.weight", "embeddings.words.weight"),
            ("embeddings.LayerNorm.bias", "embeddings.norm.bias"),
            ("encoder.layer.11.attention.self.query.weight", "layers.11.attention.query.weight"),
            ("encoder.layer.0.attention.output.dense.bias", "layers.0.attention.output.bias"),
            ("encoder.layer.0.attention.output.LayerNorm.weight", "layers.0.attention_norm.weight"),
            ("encoder.layer.2.intermediate.dense.u", "layers.2.intermediate.u"),
            ("encoder.layer.2.output.dense.weight", "layers.2.output.weight"),
            ("encoder.layer.2.output.LayerNorm.weight", "layers.2.output_norm.weight"),
            ("pooler.dense.weight", "pooler.dense.weight"),
        ] {
            assert_eq!(module_path(name), path);
            assert_eq!(checkpoint_name(path), name);
        }
        assert_eq!(module_path("bert.embeddings.word_embeddings.weight"), "embeddings.words.weight");
        assert_eq!(module_path("bert.encoder.layer.3.output.LayerNorm.gamma"), "layers.3.output_norm.weight");
        assert_eq!(linear_names(4)[3], "encoder.layer.4.attention.output.dense");
    }
}
