//! Linear layers of models whose names are not known.

use super::tables::block_number;
use super::{LinearInfo, linear};
use crate::Checkpoint;

/// What the names of embeddings contain, and of biases of attention that are looked up like them.
const EMBEDDING: [&str; 3] = ["embed", "embd", "relative_attention_bias"];
/// Names of embeddings, and of the head that shares an embedding's weight.
const EMBEDDING_NAMES: [&str; 4] = ["wte", "wpe", "shared", "lm_head"];
/// What stands before the number of a block.
const CONTAINERS: [&str; 5] = ["layers", "layer", "blocks", "block", "h"];

/// All matrices named `*.weight` that are not embeddings by name.
pub(super) fn linears(checkpoint: &Checkpoint) -> Vec<LinearInfo> {
    let layers = checkpoint.tensors().filter_map(|tensor| tensor.name.strip_suffix(".weight"));
    let mut found: Vec<LinearInfo> = layers
        .filter(|layer| !is_embedding(layer))
        .filter_map(|layer| {
            let found = linear(checkpoint, layer)?;
            Some(LinearInfo { block: found.block.or_else(|| block(layer)), ..found })
        })
        .collect();
    found.sort_by_cached_key(|linear| natural(&linear.name));
    found
}

fn is_embedding(layer: &str) -> bool {
    let layer = layer.to_ascii_lowercase();
    let named = |part: &str| EMBEDDING_NAMES.contains(&part) || EMBEDDING.iter().any(|name| part.contains(name));
    layer.split('.').any(named)
}

/// The first number behind the name of a container.
fn block(layer: &str) -> Option<usize> {
    let parts: Vec<&str> = layer.split('.').collect();
    parts.windows(2).find_map(|pair| CONTAINERS.contains(&pair[0]).then(|| block_number(pair[1]))?)
}

/// A part of a name, in the order in which people count.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize),
    Text(String),
}

fn natural(name: &str) -> Vec<Part> {
    let part = |part: &str| block_number(part).map_or_else(|| Part::Text(part.to_string()), Part::Number);
    name.split('.').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_embedding_knows_the_usual_names() {
        for layer in ["tok_embeddings", "shared", "model.embed_tokens", "wte", "lm_head", "token_embd", "x.pos_embed.y"]
        {
            assert!(is_embedding(layer), "{layer}");
        }
        for layer in ["encoder.layers.0.fc1", "head", "decoder.shared_expert.up", "h.0.mlp"] {
            assert!(!is_embedding(layer), "{layer}");
        }
    }

    #[test]
    fn block_is_the_number_of_the_container() {
        assert_eq!(block("0.model.layers.3.experts.7.w1"), Some(3));
        assert_eq!(block("encoder.block.2.layer.1.wi"), Some(2));
        assert_eq!((block("fc.1"), block("layers.x.fc"), block("layers.99999999999999999999.fc")), (None, None, None));
    }
}
