//! Models whose blocks are stored in checkpoints.

use crate::statistics::Samples;
use burn::tensor::{Int, Tensor};
use burn_structured_checkpoint::{Checkpoint, StateDict};
use burn_structured_compress::distill::DistillConfig;
use burn_structured_models::bert::{Bert, TokenBatch};
use burn_structured_models::gpt2::Gpt2;
use burn_structured_models::llama::Llama;
use burn_structured_nn::BlockModel;
use sha2::{Digest, Sha256};
use std::error::Error;

/// A model whose blocks are stored in checkpoints.
pub trait Stored: BlockModel {
    /// The token ids of a batch.
    fn tokens(batch: &Self::Batch) -> Tensor<2, Int>;

    /// How to distill such a model.
    fn distillation() -> DistillConfig;

    /// The same model with these blocks only.
    fn with_blocks(&self, blocks: &[usize]) -> Self;

    /// The tensors of a block, by the names of the dense checkpoint.
    ///
    /// # Errors
    ///
    /// If a layer has no place in a checkpoint.
    fn save(&self, block: usize, dense: &Checkpoint) -> Result<StateDict<'static>, Box<dyn Error + Send + Sync>>;

    /// Replaces a block by the one in a checkpoint.
    ///
    /// # Errors
    ///
    /// If it is not there, or does not fit.
    fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl Stored for Bert {
    fn tokens(batch: &TokenBatch) -> Tensor<2, Int> {
        batch.tokens.clone()
    }

    fn distillation() -> DistillConfig {
        DistillConfig::new()
    }

    fn with_blocks(&self, blocks: &[usize]) -> Self {
        let mut model = self.clone();
        model.layers = blocks.iter().map(|block| self.layers[*block].clone()).collect();
        model
    }

    fn save(&self, block: usize, dense: &Checkpoint) -> Result<StateDict<'static>, Box<dyn Error + Send + Sync>> {
        Ok(self.block_weights(block, dense)?)
    }

    fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.load_block(block, shard)?)
    }
}

/// A decoder. What counts for its distillation are the distributions of the next token: its output has a row for each token, whose
/// similarities say nothing.
macro_rules! stored_decoder {
    ($Decoder:ty) => {
        impl Stored for $Decoder {
            fn tokens(batch: &Tensor<2, Int>) -> Tensor<2, Int> {
                batch.clone()
            }

            fn distillation() -> DistillConfig {
                DistillConfig::new().with_output(0.0).with_similarity(0.0).with_logits(1.0)
            }

            fn with_blocks(&self, blocks: &[usize]) -> Self {
                let mut model = self.clone();
                model.blocks = blocks.iter().map(|block| self.blocks[*block].clone()).collect();
                model
            }

            fn save(
                &self,
                block: usize,
                dense: &Checkpoint,
            ) -> Result<StateDict<'static>, Box<dyn Error + Send + Sync>> {
                Ok(self.block_weights(block, dense)?)
            }

            fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>> {
                Ok(self.load_block(block, shard)?)
            }
        }
    };
}

stored_decoder!(Gpt2);
stored_decoder!(Llama);

/// SHA-256 of the tokens: what a run depends on, whatever files they come from.
pub fn fingerprint<M: Stored>(samples: &Samples<M>) -> String {
    let mut hash = Sha256::new();
    for batches in [&samples.calibration, &samples.held_out, &samples.distillation] {
        hash.update((batches.len() as u64).to_le_bytes());
        for batch in batches {
            let tokens = M::tokens(batch);
            tokens.dims().iter().for_each(|dim| hash.update((*dim as u64).to_le_bytes()));
            tokens.into_data().iter::<i64>().for_each(|token| hash.update(token.to_le_bytes()));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
