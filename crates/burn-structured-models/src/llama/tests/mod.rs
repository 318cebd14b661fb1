//! What the model computes, with and without a cache, and what it starts from.

mod blocks;
mod cache;
mod generation;
mod model;

use super::{Llama, LlamaConfig};
use crate::testing::with_noise;
use burn::tensor::Device;

/// Two blocks of 16 features, 4 heads of which 2 share keys and values, 17 tokens, context 12.
fn tiny() -> LlamaConfig {
    let sizes = LlamaConfig::new(17).with_context(12).with_d_model(16).with_depth(2);
    sizes.with_heads(4).with_kv_heads(2).with_d_hidden(24)
}

/// A model whose tokens attend to few others.
pub(super) fn random_model(config: &LlamaConfig, device: &Device) -> Llama {
    device.seed(11);
    with_noise(config.init(device))
}
