//! One training run, from settings to result.

use super::batches::{Steps, training_batches, validation_batches};
use super::curve::Curve;
use super::metric::{Loss, LossFile};
use super::optimizer::{ParameterGroups, factor_rates, optimizer};
use super::parallel::{strategy, training_devices};
use super::progress::line;
use super::steps::{LanguageModel, Training};
use super::{LanguageResult, LanguageSettings, Launch, TokenData, perplexity};
use crate::training::{self, Run, Timing, Trained, TrainingError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn::train::metric::LearningRateMetric;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use std::sync::Arc;

/// Trains the model of `settings` on `data`.
///
/// The validation loss after every `eval_interval` steps is a progress report only: neither the schedule nor the saved weights
/// depend on it.
///
/// Returns `None` if the interrupter stopped the run; its weights are then in
/// [`RunFolder::interrupted_model`](crate::training::RunFolder::interrupted_model), and the run can be resumed from its last
/// evaluation.
///
/// # Errors
///
/// If the settings are unusable, the devices are, the folder cannot be prepared (see [`Start`](crate::training::Start)), the
/// tokens cannot be read, or the training loop fails.
pub fn train_language(
    settings: &LanguageSettings,
    data: &TokenData,
    launch: &Launch,
) -> Result<Option<LanguageResult>, TrainingError> {
    let (recipe, folder) = (&settings.recipe, &launch.folder);
    recipe.check()?;
    data.check(settings.model.vocab_size)?;
    let devices = training_devices(launch, recipe)?;
    let model = new_model(settings, launch, &devices)?;
    recipe.check_for(&model.model.factors(), devices.len())?;
    let steps = Steps { total: recipe.steps, interval: recipe.eval_interval };
    let device = devices[0].clone();
    let strategy = strategy(devices, launch.distributed)?;
    // What cannot be read is reported before the folder is touched.
    training_batches(&data.train, &model.model, recipe, steps, 0, &device)?;
    validation_batches(&data.validation, &model.model, recipe, steps, 0, &device)?;

    let prepared = folder.prepare(settings, launch.start)?;
    let epoch = prepared.resumed.unwrap_or(0);
    let model = match prepared.resumed {
        Some(epoch) => training::load(model, &folder.checkpoints(), epoch)?,
        None => model,
    };
    let timing = Timing::default();
    let model = if epoch >= recipe.epochs() {
        model
    } else {
        let batches = training_batches(&data.train, &model.model, recipe, steps, epoch, &device)?;
        let validation = validation_batches(&data.validation, &model.model, recipe, steps, epoch, &device)?;
        let groups = ParameterGroups::of(&model, LanguageModel::BLOCKS);
        let optimizer = optimizer(&groups, recipe);
        let rates = factor_rates(&model, model.model.factors(), &groups, recipe);
        let schedule = recipe.schedule().scheduler(rates);
        let learner = Learner::new(model, optimizer, schedule);

        let done = steps.after(epoch);
        let file = |name: &str, header: &str, interval: usize| {
            let curve = Curve::open(folder.path().join(name), header, done)?;
            Ok::<_, TrainingError>(LossFile::new(curve, done, interval, steps.total, launch.interrupter.clone()))
        };
        let losses = file("losses.csv", "step,loss,lr", 1)?;
        let validation_losses = file("validation.csv", "step,loss", steps.interval)?;
        let mut training =
            SupervisedTraining::<LanguageModel>::new(folder.path(), Arc::new(batches), Arc::new(validation))
                .metric_train_numeric(Loss::new(losses.clone(), recipe.batch_size))
                .metric_valid_numeric(Loss::new(validation_losses.clone(), recipe.eval_batches * recipe.part()))
                .metric_train_numeric(LearningRateMetric::new())
                .with_training_strategy(TrainingStrategy::Default(strategy));
        if recipe.accumulation > 1 {
            training = training.grads_accumulation(recipe.accumulation);
        }
        let run = Run {
            epochs: recipe.epochs(),
            interrupter: launch.interrupter.clone(),
            timing: timing.clone(),
            format: line(steps, settings.model.context),
            lines: launch.after_evaluation.is_some(),
        };
        let trained = run.launch(training, learner, &prepared)?;
        losses.finish()?;
        validation_losses.finish()?;
        match trained {
            Trained::Complete(model) => model,
            Trained::Interrupted(model) => {
                folder.write_model(model.model, folder.interrupted_model())?;
                return Ok(None);
            }
        }
    };

    let model = model.model;
    folder.write_model(model.clone(), folder.model())?;
    let context = settings.model.context;
    let stride = if recipe.eval_stride == 0 { context } else { recipe.eval_stride };
    let result = LanguageResult {
        steps: recipe.steps,
        validation: perplexity(&model, &data.validation, context, stride, recipe.part())?,
        training_tokens_per_second: timing.items_per_second().map(|sequences| sequences * context as f64),
    };
    folder.write_result(&result)?;
    Ok(Some(result))
}

/// The model with its initial weights: those of [`Launch::initial`], or else random ones that follow from the seed alone.
fn new_model(settings: &LanguageSettings, launch: &Launch, devices: &[Device]) -> Result<LanguageModel, TrainingError> {
    let recipe = &settings.recipe;
    devices[0].seed(recipe.seed);
    let model = settings.model.try_init(&devices[0])?;
    let model = match launch.initial.clone() {
        Some(initial) => model
            .try_load_record(initial.valid().into_record())
            .map_err(|error| TrainingError::Initial { reason: error.to_string() })?,
        None => model,
    };
    // Burn initializes a weight at its first use, which several devices would do at the same time.
    model.visit(&mut Initialize);
    // Burn's loops add up the gradients of all devices and parts.
    let share = 1.0 / (recipe.accumulation * devices.len()) as f64;
    let after_evaluation = launch.after_evaluation.clone();
    let training = Training { share, clip_norm: recipe.clip_norm, precision: recipe.precision, after_evaluation };
    Ok(LanguageModel { model, training })
}

struct Initialize;

impl ModuleVisitor for Initialize {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}
