//! What tests of several decoders use.

mod fixture;

pub use fixture::{Checkpoint, FixtureModel, Stored, Tensors, file_names};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The same model with noise added to every parameter, so that its tokens attend to few others, as those of a trained one do: a fresh
/// one's attend to all alike.
pub fn with_noise<M: Module>(model: M) -> M {
    struct Noise;
    impl ModuleMapper for Noise {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let noise = tensor.random_like(Distribution::Normal(0.0, 0.3));
                tensor + noise
            })
        }
    }
    model.map(&mut Noise)
}

/// Token ids `[rows, length]` below `vocab_size`.
pub fn random_tokens(rows: usize, length: usize, vocab_size: usize, device: &Device) -> Tensor<2, Int> {
    let mut rng = StdRng::seed_from_u64(7);
    let tokens: Vec<i32> = (0..rows * length).map(|_| rng.random_range(0..vocab_size as i32)).collect();
    Tensor::from_data(TensorData::new(tokens, [rows, length]), device)
}
