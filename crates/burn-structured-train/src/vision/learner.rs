//! One training run, from settings to result.

use super::steps::Classifier;
use super::{ClassifierConfig, ImageClassifier, RunResult, RunSettings, evaluate};
use crate::data::{ImageBatcher, ImageSet};
use crate::training::{self, Interrupter, Pass, Run, RunFolder, Start, Timing, Trained, TrainingError};
use burn::data::dataloader::DataLoaderBuilder;
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::AdamWConfig;
use burn::tensor::Device;
use burn::train::metric::{AccuracyMetric, LearningRateMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_structured_nn::learning_rate_groups;

/// Trains the model of `settings` on `set` in `folder`.
///
/// Between epochs it is validated on as many test images as a fifth of the training images, as a progress report only:
/// neither the schedule nor the saved weights depend on it.
///
/// Returns `None` if `interrupter` stopped the run; its weights are then in [`RunFolder::interrupted_model`], and its
/// last complete epoch can be resumed.
///
/// # Errors
///
/// If the settings are unusable, the folder cannot be prepared (see [`Start`]), or the training loop fails.
pub fn train<C: ClassifierConfig>(
    settings: &RunSettings<C>,
    set: &ImageSet,
    device: &Device,
    folder: &RunFolder,
    start: Start,
    interrupter: Interrupter,
) -> Result<Option<RunResult>, TrainingError> {
    let recipe = &settings.recipe;
    recipe.check()?;
    let training_device = device.clone().autodiff();
    training_device.seed(recipe.seed);
    let classifier = Classifier { model: settings.model.try_init(&training_device)? };
    recipe.check_for(&classifier.model.factors())?;
    let prepared = folder.prepare(settings, start)?;
    let checkpoints = folder.checkpoints();
    let classifier = match prepared.resumed {
        Some(epoch) => training::load(classifier, &checkpoints, epoch)?,
        None => classifier,
    };
    let batch_size = recipe.batch_size;

    let timing = Timing::default();
    let classifier = if prepared.resumed.is_some_and(|epoch| epoch >= recipe.epochs) {
        classifier
    } else {
        let train_batcher = ImageBatcher::training(set, recipe.augmentation.clone(), recipe.seed)?;
        let loader = |batcher: ImageBatcher| {
            // One worker prepares the next batch; more would make the augmentation depend on their order.
            DataLoaderBuilder::new(batcher).batch_size(batch_size).num_workers(1)
        };
        let train_loader = loader(train_batcher).shuffle(recipe.seed).build(set.train.clone());
        // Progress between epochs needs no more; the result is measured on every test image.
        let validation = set.test.limit((set.train.len() / 5).max(1), recipe.seed);
        let validation_loader = loader(ImageBatcher::evaluation(set)).build(validation);

        let optimizer = AdamWConfig::new()
            .with_weight_decay(recipe.weight_decay as f32)
            .with_epsilon(1e-8)
            .with_grad_clipping(recipe.clip_norm.map(|norm| GradientClippingConfig::Norm(norm as f32)));
        // The factors of the loaded record, which have identities of their own.
        let groups = learning_rate_groups(&classifier, classifier.model.factors());
        let schedule = recipe.schedule(set.train.len().div_ceil(batch_size), groups)?;
        let learner = Learner::new(classifier, optimizer.init(), schedule);

        let training = SupervisedTraining::<Classifier<C::Model>>::new(folder.path(), train_loader, validation_loader)
            .metrics((AccuracyMetric::new(), LossMetric::new()))
            .metric_train_numeric(LearningRateMetric::new());
        let timing = timing.clone();
        let run = Run { epochs: recipe.epochs, interrupter, timing, format: line, lines: false };
        match run.launch(training, learner, &prepared)? {
            Trained::Complete(classifier) => classifier,
            Trained::Interrupted(classifier) => {
                folder.write_model(classifier.model, folder.interrupted_model())?;
                return Ok(None);
            }
        }
    };

    let model = classifier.model;
    folder.write_model(model.clone(), folder.model())?;
    let result = RunResult {
        epochs: recipe.epochs,
        test: evaluate(&model, set, batch_size, device),
        training_images_per_second: timing.items_per_second(),
    };
    folder.write_result(&result)?;
    Ok(Some(result))
}

/// The line that reports a pass.
fn line(pass: &Pass) -> String {
    let metrics: Vec<String> = pass.metrics.iter().map(|(name, mean)| format!("{name} {mean:.3}")).collect();
    format!(
        "epoch {}/{}  {:5}  {}/{} images  {}  {:.0} images/s",
        pass.epoch,
        pass.epochs,
        pass.split,
        pass.processed,
        pass.items,
        metrics.join("  "),
        pass.items_per_second,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::vision::Recipe;
    use burn_structured_models::vit::ViTConfig;

    #[test]
    fn damaged_checkpoint_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        let set = synthetic::generate(1, 1, 1);
        let recipe = Recipe { epochs: 2, ..Recipe::default() };
        let settings = RunSettings::new(ViTConfig::small(10).with_depth(1), recipe, &set);
        folder.prepare(&settings, Start::New).unwrap();
        std::fs::create_dir_all(folder.checkpoints()).unwrap();
        for name in training::RECORDS {
            std::fs::write(folder.checkpoints().join(format!("{name}-1.bpk")), b"x").unwrap();
        }
        let run = train(&settings, &set, &Device::flex(), &folder, Start::Resume, Interrupter::new());
        let message = run.unwrap_err().to_string();
        assert!(message.starts_with("cannot resume from ") && message.contains("optim-1.bpk"), "{message}");
    }
}
