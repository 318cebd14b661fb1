//! What tests of several decoders use.

mod fixture;

pub use fixture::{Checkpoint, FixtureModel, Stored, Tensors, file_names};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Token ids `[rows, length]` below `vocab_size`.
pub fn random_tokens(rows: usize, length: usize, vocab_size: usize, device: &Device) -> Tensor<2, Int> {
    let mut rng = StdRng::seed_from_u64(7);
    let tokens: Vec<i32> = (0..rows * length).map(|_| rng.random_range(0..vocab_size as i32)).collect();
    Tensor::from_data(TensorData::new(tokens, [rows, length]), device)
}
