//! Training a diffusion transformer.

use super::{DiffusionRecipe, NoiseSchedule, gaussian};
use crate::data::{Augmentation, ImageBatcher, ImageItem, ImageSet};
use crate::language::clip_global_norm;
use crate::training::TrainingError;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_structured_models::dit::Dit;
use burn_structured_nn::learning_rate_groups;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::ops::ControlFlow;
use std::time::Instant;

/// One step of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiffusionStep {
    /// The step, from 1.
    pub step: usize,
    /// Mean squared error of the predicted noise in the batch, before the step.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// Seconds since training began.
    pub seconds: f64,
}

/// A trained diffusion transformer.
#[derive(Clone, Debug)]
pub struct TrainedDit {
    /// The model, without a tape.
    pub model: Dit,
    /// What every step did.
    pub steps: Vec<DiffusionStep>,
    /// Whether `progress` ended the training before its last step.
    pub stopped: bool,
}

/// Trains `model` on the training images of `set`, whose pixels should be [centred](super::centred), on its device.
///
/// `progress` sees every step, and ends the training when it breaks.
///
/// # Errors
///
/// If a setting cannot be used, or there is no image.
pub fn train_dit(
    model: Dit,
    set: &ImageSet,
    recipe: &DiffusionRecipe,
    mut progress: impl FnMut(&DiffusionStep) -> ControlFlow<()>,
) -> Result<TrainedDit, TrainingError> {
    recipe.check_for(&model.factors())?;
    if set.train.is_empty() {
        let expected = "training needs at least one image";
        return Err(TrainingError::Recipe { name: "training images", value: "0".into(), expected });
    }
    let device = model.embedding.weight.device().autodiff();
    let (mut model, schedule) = (model.train(), NoiseSchedule::new(recipe.schedule, recipe.times));
    let groups = match recipe.factor_rates {
        0.0 => Vec::new(),
        share => {
            let groups = learning_rate_groups(&model, model.factors()).into_iter();
            groups.map(|(scale, group)| (scale.powf(share), group)).collect::<Vec<_>>()
        }
    };
    let optimizer = AdamWConfig::new().with_weight_decay(recipe.weight_decay as f32).with_epsilon(1e-8);
    let mut optimizer = optimizer.init();
    let augmentation = Augmentation { flip: recipe.flip, ..Augmentation::default() };
    let batcher = ImageBatcher::training(set, augmentation, recipe.seed)?;
    let mut rng = StdRng::seed_from_u64(recipe.seed);
    let (mut order, mut next) = ((0..set.train.len()).collect::<Vec<_>>(), set.train.len());

    let (started, mut steps, mut stopped) = (Instant::now(), Vec::new(), false);
    for step in 0..recipe.steps {
        if next >= order.len() {
            order.shuffle(&mut rng);
            next = 0;
        }
        let chosen = &order[next..order.len().min(next + recipe.batch_size)];
        next += chosen.len();
        let items = items(&set.train, chosen.to_vec());
        let classes: Vec<usize> = items
            .iter()
            .map(|item| if rng.random_bool(recipe.class_dropout) { model.null_class() } else { item.label })
            .collect();
        let images = batcher.batch(items, &device).images;
        let loss = error_of_batch(&model, &schedule, images, &classes, &mut rng, &device);
        let value = loss.clone().without_autodiff().into_scalar::<f64>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradients = clip_global_norm(&model, gradients, recipe.clip_norm);
        let lr = recipe.rate(step);
        let rates = groups
            .iter()
            .fold(ModuleLrScheduler::new(lr), |rates, (scale, group)| rates.with_group(group.clone(), lr * scale));
        model = optimizer.step(rates.clone().step(), model, gradients);
        let done = DiffusionStep { step: step + 1, loss: value, lr, seconds: started.elapsed().as_secs_f64() };
        steps.push(done);
        if progress(&done).is_break() {
            stopped = step + 1 < recipe.steps;
            break;
        }
    }
    Ok(TrainedDit { model: model.valid(), steps, stopped })
}

/// Mean squared error of the noise that `model` predicts in the test images of `set`, each at one time; the seed decides times and noise.
pub fn noise_error(model: &Dit, set: &ImageSet, schedule: &NoiseSchedule, batch_size: usize, seed: u64) -> f64 {
    let model = model.valid();
    let device = model.embedding.weight.device().inner();
    let batcher = ImageBatcher::evaluation(set);
    let mut rng = StdRng::seed_from_u64(seed);
    let indices: Vec<usize> = (0..set.test.len()).collect();
    let mut sum = 0.0;
    for chosen in indices.chunks(batch_size.max(1)) {
        let items = items(&set.test, chosen.to_vec());
        let classes: Vec<usize> = items.iter().map(|item| item.label).collect();
        let images = batcher.batch(items, &device).images;
        let error = error_of_batch(&model, schedule, images, &classes, &mut rng, &device);
        sum += error.into_scalar::<f64>() * chosen.len() as f64;
    }
    sum / indices.len().max(1) as f64
}

fn items(images: &crate::data::Images, chosen: Vec<usize>) -> Vec<ImageItem> {
    match images.get_many(chosen) {
        Ok(items) => items,
        Err(_) => unreachable!("images in memory can be read"),
    }
}

/// `mean (model(x_t, t, class) − ε)²` over a batch, at times and with noise from `rng`.
fn error_of_batch(
    model: &Dit,
    schedule: &NoiseSchedule,
    images: Tensor<4>,
    classes: &[usize],
    rng: &mut StdRng,
    device: &Device,
) -> Tensor<1> {
    let times: Vec<usize> = classes.iter().map(|_| rng.random_range(0..schedule.steps())).collect();
    let noise = gaussian(images.dims(), rng, device);
    let noisy = schedule.add_noise(images, noise.clone(), &times);
    let times: Vec<f64> = times.into_iter().map(|time| time as f64).collect();
    (model.forward(noisy, &times, classes) - noise).square().mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::diffusion::{ScheduleKind, centred};
    use burn::module::Param;
    use burn::nn::Linear;
    use burn::tensor::TensorData;
    use burn_structured_models::dit::DitConfig;
    use burn_structured_nn::{Structure, StructuredLinear};

    fn tiny() -> DitConfig {
        DitConfig::new(10).with_d_model(32).with_depth(1).with_heads(2).with_frequencies(16)
    }

    #[test]
    fn training_lowers_the_noise_error() {
        let device = Device::flex();
        device.seed(1);
        let set = centred(synthetic::generate(4, 4, 1));
        for structure in ["dense", "blast:b=2,r=4"] {
            let model = tiny().with_structure(structure.parse().unwrap()).init(&device);
            let schedule = NoiseSchedule::new(ScheduleKind::Cosine, 100);
            let before = noise_error(&model, &set, &schedule, 16, 5);
            // A fresh model predicts no noise, whose mean square is 1.
            assert!((before - 1.0).abs() < 0.05, "{before}");
            let recipe = DiffusionRecipe {
                steps: 100,
                batch_size: 16,
                lr: 3e-3,
                warmup: 5,
                times: 100,
                factor_rates: 0.5,
                ..DiffusionRecipe::default()
            };
            let trained = train_dit(model, &set, &recipe, |_| ControlFlow::Continue(())).unwrap();
            let after = noise_error(&trained.model, &set, &schedule, 16, 5);
            assert!(after < 0.9 * before && trained.steps.len() == 100 && !trained.stopped, "{structure}: {after}");
        }
    }

    #[test]
    fn approximated_layers_are_trained() {
        let device = Device::flex();
        let set = centred(synthetic::generate(1, 1, 1));
        let mut model = tiny().init(&device);
        for (_, slot) in model.linears_mut() {
            let StructuredLinear::Dense(linear) = &*slot else { panic!("a dense model") };
            // Modulations start as zero, whose approximation has no gradient.
            let trained = Linear { weight: Param::from_tensor(linear.weight.val() + 0.1), bias: linear.bias.clone() };
            let structure: Structure = "low-rank:r=2".parse().unwrap();
            *slot = structure.approximate(&trained).unwrap().layer;
        }
        let factors = |model: &Dit| -> Vec<TensorData> {
            let layers = model.linears().map(|(_, layer)| match layer {
                StructuredLinear::LowRank(layer) => layer.to_dense().into_data(),
                other => panic!("{other}"),
            });
            layers.collect()
        };
        let before = factors(&model);
        let recipe = DiffusionRecipe { steps: 3, batch_size: 4, warmup: 0, times: 10, ..DiffusionRecipe::default() };
        // The last layer starts as zero and has to move first.
        let after = factors(&train_dit(model, &set, &recipe, |_| ControlFlow::Continue(())).unwrap().model);
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_ne!(before, after, "layer {index}");
        }
    }

    #[test]
    fn training_is_reproducible_and_can_be_stopped() {
        let device = Device::flex();
        let set = centred(synthetic::generate(1, 1, 1));
        let recipe = DiffusionRecipe { steps: 5, batch_size: 4, times: 10, ..DiffusionRecipe::default() };
        let model = tiny().init(&device);
        let losses = |limit: usize| {
            let stop = |step: &DiffusionStep| match step.step == limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let trained = train_dit(model.clone(), &set, &recipe, stop).unwrap();
            (trained.steps.iter().map(|step| step.loss).collect::<Vec<_>>(), trained.stopped)
        };
        let (all, stopped) = losses(5);
        assert!(all.len() == 5 && !stopped);
        assert_eq!(losses(3), (all[..3].to_vec(), true));
    }
}
