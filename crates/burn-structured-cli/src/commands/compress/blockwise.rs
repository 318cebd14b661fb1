//! Models that can run, block after block.

use super::Arguments;
use super::estimate::Length;
use super::events::Events;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{Model, cannot_run, with_decoder};
use crate::statistics::Samples;
use crate::stored::{Stored, fingerprint};
use burn::tensor::Device;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::pipeline::{
    BlockFormat, BlockwiseConfig, Event, Finished, Output, Texts, compress_model,
};
use burn_structured_compress::plan::Plan;
use burn_structured_compress::refine::RefineConfig;
use burn_structured_compress::sequential::SequentialConfig;

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
        match Model::load(checkpoint, device)? {
            Model::Encoder(encoder) => {
                let samples = Samples::sentences(&arguments.text, arguments.distillation.lines(), &encoder, device)?;
                self.compress(&encoder.model, &samples)
            }
            Model::Language(model) => with_decoder!(&model, model => {
                let windows = arguments.distillation.windows();
                let samples = Samples::windows(&arguments.text, windows, checkpoint, &**model, device)?;
                self.compress(&**model, &samples)
            }),
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
        let distillation = arguments.distillation.budget();
        let config = BlockwiseConfig::new()
            .with_sequential(SequentialConfig::new().with_alphas(arguments.training.alphas.clone()))
            .with_refine(refinement.map(|budget| RefineConfig::new().with_budget(budget)))
            .with_distill(arguments.distillation.config::<M>())
            .with_seed(arguments.seed)
            .with_int8(arguments.int8);
        let events = Events::new(context, refinement.map(Length::from), distillation.map(Length::from));
        let observer = &mut |event: &Event<'_>| events.observe(event);
        compress_model(checkpoint, model, &format, &texts, plan, &config, output, device, observer)
            .map_err(|error| events.failure(error))
    }
}
