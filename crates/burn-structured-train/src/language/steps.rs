//! What one batch does: Burn's training and inference steps of a language model.

use super::Precision;
use super::clip::{clip_global_norm, clip_global_norm_multi, sum_over_devices};
use super::loss::negative_log_likelihood;
use super::metric::LossInput;
use crate::data::tokens::TokenBatch;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::{FloatDType, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use burn_structured_models::gpt2::Gpt2;
use std::fmt;
use std::sync::Arc;

/// Called after an evaluation with the steps that are done and the model as it is then.
#[derive(Clone)]
pub struct AfterEvaluation(pub(super) Arc<Callback>);

type Callback = dyn Fn(usize, &Gpt2) + Send + Sync;

impl fmt::Debug for AfterEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterEvaluation")
    }
}

/// A [`Gpt2`] as Burn's training loop takes it: this crate may implement Burn's traits only for a type of its own.
#[derive(Module, Debug)]
pub(super) struct LanguageModel {
    pub model: Gpt2,
    #[module(skip)]
    pub training: Training,
}

/// How the model is trained.
#[derive(Clone, Debug)]
pub(super) struct Training {
    /// The share of one backward pass in the gradient of a step: Burn's loop adds up the gradients of all devices and parts.
    pub share: f64,
    pub clip_norm: Option<f64>,
    pub precision: Precision,
    pub after_evaluation: Option<AfterEvaluation>,
}

/// A batch of validation tokens.
pub(super) struct ValidationBatch {
    pub batch: TokenBatch,
    /// The steps that are done, with the last batch of an evaluation.
    pub finished: Option<usize>,
}

/// The loss of a batch, as a mean over its tokens.
pub(super) struct LanguageOutput {
    loss: Tensor<1>,
    sequences: usize,
}

impl LanguageModel {
    /// The path of the transformer blocks.
    pub const BLOCKS: &str = "model.blocks";

    /// The model in the type that it computes with. The gradients flow back through the conversion, to its own weights.
    pub fn computing(&self) -> Gpt2 {
        match self.training.precision {
            Precision::F32 => self.model.clone(),
            Precision::Bf16 => self.model.clone().map(&mut Cast(FloatDType::BF16)),
        }
    }

    fn loss(&self, batch: TokenBatch) -> LanguageOutput {
        let [sequences, _] = batch.inputs.dims();
        let logits = self.computing().forward(batch.inputs);
        LanguageOutput { loss: negative_log_likelihood(logits, batch.targets).mean(), sequences }
    }
}

struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.cast(self.0), mapper)
    }
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = LanguageOutput;

    fn step(&self, batch: TokenBatch) -> TrainOutput<LanguageOutput> {
        let output = self.loss(batch);
        let gradients = output.loss.clone().mul_scalar(self.training.share).backward();
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(self, optimizer: &mut ModuleOptimizer, lr: ModuleLearningRate, grads: GradientsParams) -> Self {
        let grads = match self.training.clip_norm {
            Some(norm) => clip_global_norm(&self, grads, norm),
            None => grads,
        };
        optimizer.step(lr, self, grads)
    }

    fn optimize_multi(
        self,
        optimizer: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: MultiGradientsParams,
    ) -> Self {
        let grads = sum_over_devices(&self, grads);
        let grads = match self.training.clip_norm {
            Some(norm) => clip_global_norm_multi(&self, grads, norm),
            None => grads,
        };
        optimizer.step_multi(lr, self, grads)
    }
}

impl InferenceStep for LanguageModel {
    type Input = ValidationBatch;
    type Output = LanguageOutput;

    fn step(&self, batch: ValidationBatch) -> LanguageOutput {
        let output = self.loss(batch.batch);
        if let (Some(steps), Some(AfterEvaluation(call))) = (batch.finished, &self.training.after_evaluation) {
            call(steps, &self.model);
        }
        output
    }
}

impl ItemLazy for LanguageOutput {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        self.loss.device().flush()?;
        // The thread that measures needs the number only, not the graph.
        Ok(Self { loss: self.loss.without_autodiff(), ..self })
    }
}

impl Adaptor<LossInput> for LanguageOutput {
    fn adapt(&self) -> LossInput {
        LossInput { loss: self.loss.clone(), sequences: self.sequences }
    }
}
