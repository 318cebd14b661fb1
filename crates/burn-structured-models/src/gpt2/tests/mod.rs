//! What the model computes, with and without a cache, and what it starts from.

mod blocks;
mod init;
mod model;

use super::{Gpt2, Gpt2Config};
use crate::testing::with_noise;
use burn::tensor::Device;

/// Two blocks of 16 features in 2 heads, 17 tokens, context 12.
fn tiny() -> Gpt2Config {
    Gpt2Config::new(17).with_context(12).with_d_model(16).with_depth(2).with_heads(2)
}

/// A model whose tokens attend to few others.
pub(super) fn random_model(config: &Gpt2Config, device: &Device) -> Gpt2 {
    device.seed(11);
    with_noise(config.init(device))
}
