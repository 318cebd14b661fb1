//! Training a compressed model further: on text, or to imitate the model that it was compressed from.

use super::LanguageRecipe;
use super::batches::{Steps, training_batches};
use super::loss::{distillation, hidden_state_error, negative_log_likelihood};
use super::optimizer::{ParameterGroups, factor_rates, optimizer};
use super::parallel::training_device;
use super::steps::{LanguageModel, Training};
use crate::data::tokens::{TokenBatch, TokenSource};
use crate::training::TrainingError;
use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{Module, ModuleMapper, Param, ParamGroup, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, GradientCheckpointingStrategy, Int, Tensor};
use burn::train::TrainStep;
use burn_structured_models::gpt2::Gpt2;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The parameters that retraining changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameters {
    /// All of them.
    #[default]
    All,
    /// The factors of the structured layers; embeddings, norms, biases and dense layers stay as they are.
    Factors,
}

/// What retraining minimises, and for how long.
///
/// The loss is `cross_entropy · CE + logits · T² KL(teacher_T ‖ student_T) + hidden_states · E`, where `CE` is the mean
/// negative log-likelihood of the tokens, `KL` the divergence of the distributions at temperature `T`, and `E` the squared
/// error of the hidden states relative to the teacher's, averaged over the layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetrainConfig {
    /// Optimizer, schedule and batches; the evaluation settings are not used.
    pub recipe: LanguageRecipe,
    /// The time that retraining takes, instead of the recipe's steps: the learning rate then goes through the schedule of the
    /// recipe with the time, and the step that is running at the end is finished.
    pub seconds: Option<f64>,
    /// The parameters that change.
    pub parameters: Parameters,
    /// Weight of the cross-entropy with the text.
    pub cross_entropy: f64,
    /// Weight of the divergence from the teacher's distribution of the next token.
    pub logits: f64,
    /// Temperature of both distributions; above 1, unlikely tokens count for more.
    pub temperature: f64,
    /// Weight of the error of the hidden states: the embedding, what every block gives, and the final norm.
    pub hidden_states: f64,
}

impl Default for RetrainConfig {
    /// All parameters on the cross-entropy with the text, which needs no teacher.
    fn default() -> Self {
        Self {
            recipe: LanguageRecipe::default(),
            seconds: None,
            parameters: Parameters::All,
            cross_entropy: 1.0,
            logits: 0.0,
            temperature: 1.0,
            hidden_states: 0.0,
        }
    }
}

impl RetrainConfig {
    /// All parameters on the divergence from the teacher's distributions, at temperature 1.
    pub fn distillation() -> Self {
        Self { cross_entropy: 0.0, logits: 1.0, ..Self::default() }
    }

    /// Whether it takes a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.logits > 0.0 || self.hidden_states > 0.0
    }

    fn check(&self) -> Result<(), TrainingError> {
        self.recipe.check()?;
        let error =
            |name, value: f64, expected| Err(TrainingError::Recipe { name, value: value.to_string(), expected });
        let weights = [
            ("cross-entropy weight", self.cross_entropy),
            ("logits weight", self.logits),
            ("hidden-state weight", self.hidden_states),
        ];
        if let Some((name, weight)) = weights.into_iter().find(|(_, weight)| !(*weight >= 0.0 && weight.is_finite())) {
            return error(name, weight, "give a number from 0 up");
        }
        if weights.iter().all(|(_, weight)| *weight == 0.0) {
            return error("cross-entropy weight", 0.0, "give at least one of the losses a weight");
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return error("temperature", self.temperature, "give a number above 0, such as 1");
        }
        match self.seconds {
            Some(seconds) if !(seconds > 0.0 && Duration::try_from_secs_f64(seconds).is_ok()) => {
                error("seconds", seconds, "give a time above 0")
            }
            _ => Ok(()),
        }
    }
}

/// One step of retraining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainStep {
    /// The step, from 1.
    pub step: usize,
    /// The share of the budget that was used before it.
    pub progress: f64,
    /// The loss before it.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// Seconds since retraining began.
    pub seconds: f64,
}

/// A retrained model.
#[derive(Clone, Debug)]
pub struct Retrained {
    /// The model, on its device without a tape.
    pub model: Gpt2,
    /// What every step did.
    pub steps: Vec<RetrainStep>,
    /// Tokens that it was trained on.
    pub tokens: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Trains `student` on `tokens` until the budget of `config` is used or `progress`, which sees every step, breaks.
///
/// The windows have the length of the student's context and are drawn as in [`train_language`](super::train_language). The
/// teacher may be on another device.
///
/// # Errors
///
/// If a setting cannot be used, the loss needs a teacher and there is none, the teacher does not fit the student, or the
/// tokens cannot be read.
pub fn retrain(
    student: Gpt2,
    teacher: Option<&Gpt2>,
    tokens: &TokenSource,
    config: &RetrainConfig,
    mut progress: impl FnMut(&RetrainStep) -> ControlFlow<()>,
) -> Result<Retrained, TrainingError> {
    config.check()?;
    let (recipe, factors) = (&config.recipe, student.factors());
    recipe.check_for(&factors, 1)?;
    if config.parameters == Parameters::Factors && factors.is_empty() {
        let expected = "the model has no structured layer; retrain all parameters";
        return Err(TrainingError::Recipe { name: "parameters", value: "factors".into(), expected });
    }
    let device = training_device(&student.device().inner(), recipe)?;
    let objective = Objective { teacher: teacher_for(&student, teacher, config)?, config };
    let batches =
        training_batches(tokens, &student, recipe, Steps { total: usize::MAX, interval: recipe.steps }, 0, &device)?;
    let tokens_of_step = recipe.batch_size * student.context();

    let mut model = trainable(student, config, &device);
    let groups = ParameterGroups::of(&model, LanguageModel::BLOCKS);
    let mut optimizer = optimizer(&groups, recipe);
    let rates = factor_rates(&model, model.model.factors(), &groups, recipe);

    let started = Instant::now();
    let seconds = || started.elapsed().as_secs_f64();
    let mut steps: Vec<RetrainStep> = Vec::new();
    let mut epoch = batches.iter();
    loop {
        let used = match config.seconds {
            Some(budget) => seconds() / budget,
            None => steps.len() as f64 / recipe.steps as f64,
        };
        if used >= 1.0 {
            break;
        }
        if !steps.is_empty() && steps.len().is_multiple_of(recipe.steps) {
            epoch = batches.iter();
        }
        let (gradients, loss) = objective.gradients(&model, &mut *epoch)?;
        let lr = recipe.schedule().rate(used * recipe.steps as f64);
        model = model.optimize(&mut optimizer, group_rates(lr, &rates), gradients);
        let step =
            RetrainStep { step: steps.len() + 1, progress: used, loss: loss.into_scalar(), lr, seconds: seconds() };
        steps.push(step);
        if progress(&step).is_break() {
            break;
        }
    }
    let tokens = steps.len() * tokens_of_step;
    Ok(Retrained { model: model.model.valid(), steps, tokens, seconds: seconds() })
}

/// The teacher that the loss of `config` needs, without a tape.
fn teacher_for(student: &Gpt2, teacher: Option<&Gpt2>, config: &RetrainConfig) -> Result<Option<Gpt2>, TrainingError> {
    if !config.needs_teacher() {
        return Ok(None);
    }
    let error = |reason: String| Err(TrainingError::Teacher { reason });
    let Some(teacher) = teacher else {
        return error("there is none; give one, or train on the cross-entropy alone".into());
    };
    for (what, theirs, ours, fits) in [
        ("vocabulary", teacher.vocab_size(), student.vocab_size(), teacher.vocab_size() == student.vocab_size()),
        ("context", teacher.context(), student.context(), teacher.context() >= student.context()),
    ] {
        if !fits {
            return error(format!("its {what} has {theirs} tokens, the student's {ours}"));
        }
    }
    let shape = |model: &Gpt2| (model.blocks.len(), model.tokens.weight.dims()[1]);
    let [theirs, ours] = [teacher, student].map(shape);
    if config.hidden_states > 0.0 && theirs != ours {
        let [theirs, ours] = [theirs, ours].map(|(blocks, features)| format!("{blocks} blocks of {features} features"));
        return error(format!("it has {theirs}, the student {ours}; leave out the hidden states"));
    }
    Ok(Some(teacher.valid()))
}

/// What a step minimises.
struct Objective<'a> {
    teacher: Option<Gpt2>,
    config: &'a RetrainConfig,
}

impl Objective<'_> {
    /// The gradients and the loss of one step, over all its parts.
    fn gradients(
        &self,
        model: &LanguageModel,
        batches: &mut dyn DataLoaderIterator<TokenBatch>,
    ) -> Result<(GradientsParams, Tensor<1>), TrainingError> {
        let mut gradients = GradientsAccumulator::new();
        let mut losses = Vec::new();
        for _ in 0..self.config.recipe.accumulation {
            let batch = batches.next().expect("an epoch has the batches of all its steps");
            let batch = batch.map_err(|error| TrainingError::Loop(error.to_string()))?;
            let loss = self.loss(model, batch) * model.training.share;
            losses.push(loss.clone().without_autodiff());
            gradients.accumulate(model, GradientsParams::from_grads(loss.backward(), model));
        }
        Ok((gradients.grads(), Tensor::cat(losses, 0).sum()))
    }

    fn loss(&self, model: &LanguageModel, batch: TokenBatch) -> Tensor<1> {
        let RetrainConfig { cross_entropy, logits: imitation, temperature, hidden_states, .. } = *self.config;
        let with_states = |model: &Gpt2, inputs: Tensor<2, Int>| {
            let mut states = model.hidden_states(inputs);
            let features = states.last().expect("a model has hidden states").clone();
            let logits = model.logits(features);
            if hidden_states == 0.0 {
                states.clear();
            }
            (states, logits)
        };
        let (states, logits) = with_states(&model.computing(), batch.inputs.clone());
        let mut terms = Vec::new();
        if let Some(teacher) = &self.teacher {
            let inputs = batch.inputs.without_autodiff().to_device(&teacher.device());
            let (their_states, their_logits) = with_states(teacher, inputs);
            let here = |tensor: Tensor<3>| tensor.to_device(&logits.device());
            if imitation > 0.0 {
                terms.push(distillation(logits.clone(), here(their_logits), temperature) * imitation);
            }
            if hidden_states > 0.0 {
                terms.push(hidden_state_error(states, their_states.into_iter().map(here).collect()) * hidden_states);
            }
        }
        if cross_entropy > 0.0 {
            terms.push(negative_log_likelihood(logits, batch.targets).mean() * cross_entropy);
        }
        terms.into_iter().reduce(|sum, term| sum + term).expect("one of the weights is above 0")
    }
}

/// `student` with a tape, on which only the parameters that `config` names have gradients.
fn trainable(student: Gpt2, config: &RetrainConfig, device: &Device) -> LanguageModel {
    let factors: Vec<ParamId> = student.factors().iter().map(|factor| factor.id).collect();
    let mut lift = Lift {
        strategy: device.gradient_checkpointing_strategy().unwrap_or_default(),
        trained: match config.parameters {
            Parameters::All => ParamGroup::all(),
            Parameters::Factors => ParamGroup::from_ids(factors),
        },
    };
    let recipe = &config.recipe;
    let training = Training {
        share: 1.0 / recipe.accumulation as f64,
        clip_norm: recipe.clip_norm,
        precision: recipe.precision,
        after_evaluation: None,
    };
    LanguageModel { model: student.map(&mut lift), training }
}

struct Lift {
    strategy: GradientCheckpointingStrategy,
    trained: ParamGroup,
}

impl ModuleMapper for Lift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = tensor.without_autodiff().autodiff().with_gradient_checkpointing_strategy(self.strategy);
        Param::from_mapped_value(id, tensor.set_require_grad(self.trained.matches(&id, None)), mapper)
    }
}

/// The rate `lr`, scaled for the parameters of each group.
fn group_rates(lr: f64, groups: &[(f64, ParamGroup)]) -> ModuleLearningRate {
    let scaled =
        |rates: ModuleLrScheduler, (scale, group): &(f64, ParamGroup)| rates.with_group(group.clone(), lr * scale);
    groups.iter().fold(ModuleLrScheduler::new(lr), scaled).step()
}
