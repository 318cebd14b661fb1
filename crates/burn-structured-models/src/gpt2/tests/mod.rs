//! What the model computes, with and without a cache, and what it starts from.

mod blocks;
mod cache;
mod init;
mod model;

use super::{Gpt2, Gpt2Config};
use crate::testing::with_noise;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Two blocks of 16 features in 2 heads, 17 tokens, context 12.
fn tiny() -> Gpt2Config {
    Gpt2Config::new(17).with_context(12).with_d_model(16).with_depth(2).with_heads(2)
}

/// A model whose tokens attend to few others, as those of a trained one do: a fresh one's attend to all alike.
pub(super) fn random_model(config: &Gpt2Config, device: &Device) -> Gpt2 {
    device.seed(11);
    with_noise(config.init(device))
}

/// Token ids `[rows, length]` below `vocab_size`.
fn random_tokens(rows: usize, length: usize, vocab_size: usize, device: &Device) -> Tensor<2, Int> {
    let mut rng = StdRng::seed_from_u64(7);
    let tokens: Vec<i32> = (0..rows * length).map(|_| rng.random_range(0..vocab_size as i32)).collect();
    Tensor::from_data(TensorData::new(tokens, [rows, length]), device)
}
