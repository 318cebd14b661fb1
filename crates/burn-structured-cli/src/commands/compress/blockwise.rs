//! Models that can run, block after block.

use super::estimate::Length;
use super::events::Events;
use super::{Arguments, TrainingArguments};
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{Model, cannot_run};
use crate::statistics::Samples;
use burn::tensor::{Device, Int, Tensor};
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::Budget;
use burn_structured_compress::distill::DistillConfig;
use burn_structured_compress::pipeline::{
    BlockFormat, BlockTensors, BlockwiseConfig, Event, Finished, Output, Texts, compress_model,
};
use burn_structured_compress::plan::Plan;
use burn_structured_compress::refine::RefineConfig;
use burn_structured_compress::sequential::SequentialConfig;
use burn_structured_models::bert::{Bert, TokenBatch};
use burn_structured_models::gpt2::Gpt2;
use burn_structured_nn::BlockModel;
use sha2::{Digest, Sha256};
use std::error::Error;

/// Lines for the distillation of a sentence encoder.
const LINES: usize = 24_000;

/// Windows for the distillation of a GPT-2.
const WINDOWS: usize = 512;

/// Everything but the model and the text.
pub struct Job<'a> {
    pub arguments: &'a Arguments,
    pub checkpoint: &'a Checkpoint,
    pub plan: &'a Plan,
    pub output: &'a Output,
    pub device: &'a Device,
    pub context: &'a Context,
}

impl Job<'_> {
    /// Compresses the model of the checkpoint.
    ///
    /// # Errors
    ///
    /// If it cannot run, the text cannot be used, or as [`compress_model`].
    pub fn run(&self) -> Result<Finished, Failure> {
        let Self { arguments, checkpoint, device, .. } = self;
        let distillation = |default: usize| match arguments.training.distillation() {
            Some(_) => arguments.training.distill_samples.unwrap_or(default),
            None => 0,
        };
        match Model::load(checkpoint, device)? {
            Model::Encoder(encoder) => {
                let samples = Samples::sentences(&arguments.text, distillation(LINES), &encoder, device)?;
                self.compress(&encoder.model, &samples)
            }
            Model::Language(model) => {
                let samples = Samples::windows(&arguments.text, distillation(WINDOWS), checkpoint, &model, device)?;
                self.compress(&*model, &samples)
            }
            Model::Other => Err(cannot_run(checkpoint, "compress --text")),
        }
    }

    fn compress<M: Stored>(&self, model: &M, samples: &Samples<M>) -> Result<Finished, Failure> {
        let Self { arguments, checkpoint, plan, output, device, context } = self;
        let texts = Texts {
            calibration: &samples.calibration,
            held_out: &samples.held_out,
            distillation: &samples.distillation,
            fingerprint: fingerprint(samples),
        };
        let format = BlockFormat {
            save: &|model: &M, block| model.save(block, checkpoint),
            load: &|model: &mut M, block, shard| model.load(block, shard),
        };
        let refinement = arguments.training.refinement(model.blocks().len());
        let distillation = arguments.training.distillation();
        let config = BlockwiseConfig::new()
            .with_sequential(SequentialConfig::new().with_alphas(arguments.training.alphas.clone()))
            .with_refine(refinement.map(|budget| RefineConfig::new().with_budget(budget)))
            .with_distill(distillation.map(|budget| {
                M::distillation().with_budget(budget).with_learning_rate(arguments.training.distill_rate)
            }))
            .with_seed(arguments.seed);
        let events = Events::new(context, refinement.map(length), distillation.map(length));
        let observer = &mut |event: &Event<'_>| events.observe(event);
        compress_model(checkpoint, model, &format, &texts, plan, &config, output, device, observer)
            .map_err(|error| events.failure(error))
    }
}

impl TrainingArguments {
    /// How long each of `depth` blocks is trained, if it is.
    fn refinement(&self, depth: usize) -> Option<Budget> {
        let seconds = self.refine.map(|minutes| Budget::Seconds(60.0 * minutes / depth.max(1) as f64));
        self.refine_steps.map(Budget::Steps).or(seconds)
    }

    /// How long the whole model is trained, if it is.
    fn distillation(&self) -> Option<Budget> {
        self.distill_steps.map(Budget::Steps).or(self.distill.map(|minutes| Budget::Seconds(60.0 * minutes)))
    }
}

/// How long a training takes.
fn length(budget: Budget) -> Length {
    match budget {
        Budget::Steps(steps) => Length::Steps(steps),
        Budget::Seconds(seconds) => Length::Seconds(seconds),
    }
}

/// A model whose blocks are stored in checkpoints.
trait Stored: BlockModel {
    /// The token ids of a batch.
    fn tokens(batch: &Self::Batch) -> Tensor<2, Int>;

    /// How to distill such a model.
    fn distillation() -> DistillConfig;

    fn save(&self, block: usize, dense: &Checkpoint) -> Result<BlockTensors, Box<dyn Error + Send + Sync>>;

    fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl Stored for Bert {
    fn tokens(batch: &TokenBatch) -> Tensor<2, Int> {
        batch.tokens.clone()
    }

    fn distillation() -> DistillConfig {
        DistillConfig::new()
    }

    fn save(&self, block: usize, dense: &Checkpoint) -> Result<BlockTensors, Box<dyn Error + Send + Sync>> {
        let weights = self.block_weights(block, dense)?;
        Ok(BlockTensors { tensors: weights.tensors, layers: weights.layers })
    }

    fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.load_block(block, shard)?)
    }
}

impl Stored for Gpt2 {
    fn tokens(batch: &Tensor<2, Int>) -> Tensor<2, Int> {
        batch.clone()
    }

    /// Its output has a row for each token, whose similarities say nothing.
    fn distillation() -> DistillConfig {
        DistillConfig::new().with_similarity(0.0)
    }

    fn save(&self, block: usize, dense: &Checkpoint) -> Result<BlockTensors, Box<dyn Error + Send + Sync>> {
        let weights = self.block_weights(block, dense)?;
        Ok(BlockTensors { tensors: weights.tensors, layers: weights.layers })
    }

    fn load(&mut self, block: usize, shard: &Checkpoint) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.load_block(block, shard)?)
    }
}

/// SHA-256 of the tokens: what a run depends on, whatever files they come from.
fn fingerprint<M: Stored>(samples: &Samples<M>) -> String {
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
