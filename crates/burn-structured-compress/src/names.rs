//! Names of layers in checkpoints, which may have a prefix.

use burn_structured_nn::{BlockModel, layer_paths};

/// The linear layers of all blocks: the name of each in the model's checkpoints, and its place in the model.
pub(crate) fn block_layer_paths<M: BlockModel>(model: &M) -> Vec<(String, String)> {
    let paths = layer_paths(model);
    let blocks = 0..model.blocks().len();
    let named = blocks.flat_map(|block| model.linears(block)).filter_map(|(name, layer)| {
        // Any parameter of a layer has the layer's path.
        let path = layer_paths(layer).into_keys().find_map(|parameter| paths.get(&parameter))?;
        Some((name, path.clone()))
    });
    named.collect()
}

/// Whether `full` is `name` behind a prefix such as `bert.`, or without one.
pub(crate) fn is_suffix(full: &str, name: &str) -> bool {
    full.strip_suffix(name).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}
