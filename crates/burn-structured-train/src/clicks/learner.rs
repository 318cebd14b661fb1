//! Training a click model.

use super::ClickRecipe;
use crate::data::clicks::Clicks;
use crate::language::WarmupCosine;
use crate::training::TrainingError;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::Tensor;
use burn::tensor::activation::softplus;
use burn_structured_models::dlrm::Dlrm;
use burn_structured_nn::learning_rate_groups;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::ops::ControlFlow;
use std::time::Instant;

/// Share of the steps that the learning rate rises for.
const WARMUP: f64 = 0.05;

/// One step of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClickStep {
    /// The step, from 1.
    pub step: usize,
    /// Steps of the whole training.
    pub steps: usize,
    /// Cross-entropy of the batch, before the step.
    pub loss: f64,
}

/// A trained click model.
#[derive(Clone, Debug)]
pub struct TrainedDlrm {
    /// The model, without a tape.
    pub model: Dlrm,
    /// Seconds of the training.
    pub seconds: f64,
    /// Whether `progress` ended the training before its last step.
    pub stopped: bool,
}

/// Trains `model` on `clicks`, on its device.
///
/// `progress` sees every step, and ends the training when it breaks.
///
/// # Errors
///
/// If a setting cannot be used, or there is no example.
pub fn train_clicks(
    model: Dlrm,
    clicks: &Clicks,
    recipe: &ClickRecipe,
    mut progress: impl FnMut(&ClickStep) -> ControlFlow<()>,
) -> Result<TrainedDlrm, TrainingError> {
    recipe.check_for(&model.factors())?;
    if clicks.is_empty() {
        let expected = "training needs at least one example";
        return Err(TrainingError::Recipe { name: "training examples", value: "0".into(), expected });
    }
    let device = model.embeddings.device().autodiff();
    let mut model = model.train();
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let groups = match recipe.factor_rates {
        0.0 => Vec::new(),
        _ => learning_rate_groups(&model, model.factors()),
    };
    let mut rng = StdRng::seed_from_u64(recipe.seed);
    let mut order: Vec<usize> = (0..clicks.len()).collect();
    let steps = recipe.epochs * clicks.len().div_ceil(recipe.batch_size);
    let schedule = WarmupCosine {
        peak: recipe.lr,
        min: recipe.lr / 100.0,
        warmup: (WARMUP * steps as f64).floor(),
        total: steps as f64,
    };
    let (started, mut step, mut stopped) = (Instant::now(), 0, false);
    'training: for _ in 0..recipe.epochs {
        order.shuffle(&mut rng);
        for chosen in order.chunks(recipe.batch_size) {
            let batch = clicks.batch(chosen, &device);
            let loss = cross_entropy(model.forward(batch.numbers, batch.categories), batch.clicked);
            let value = loss.clone().without_autodiff().into_scalar::<f64>();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let lr = schedule.rate(step as f64);
            let mut rates = groups.iter().fold(ModuleLrScheduler::new(lr), |rates, (scale, group)| {
                rates.with_group(group.clone(), lr * scale.powf(recipe.factor_rates))
            });
            model = optimizer.step(rates.step(), model, gradients);
            step += 1;
            if progress(&ClickStep { step, steps, loss: value }).is_break() {
                stopped = step < steps;
                break 'training;
            }
        }
    }
    Ok(TrainedDlrm { model: model.valid(), seconds: started.elapsed().as_secs_f64(), stopped })
}

/// Mean of `log(1 + e^z) − y z` over the batch.
pub(super) fn cross_entropy(logits: Tensor<1>, clicked: Tensor<1>) -> Tensor<1> {
    (softplus(logits.clone(), 1.0) - logits * clicked).mean()
}

#[cfg(test)]
mod tests {
    use super::super::evaluate_clicks;
    use super::*;
    use crate::data::clicks::{ClickShape, generate};
    use burn::tensor::Device;
    use burn_structured_models::dlrm::DlrmConfig;

    #[test]
    fn training_learns_to_rank() {
        let device = Device::flex();
        device.seed(1);
        let shape = ClickShape { numbers: 4, tables: vec![5, 8] };
        let [train, test] = generate(&shape, 6000, 2000, 1);
        for structure in ["dense", "blast:b=2,r=4"] {
            let config = DlrmConfig::new(4, shape.tables.clone()).with_d_embedding(8);
            let config = config.with_bottom(vec![16]).with_top(vec![32, 16]);
            let model = config.with_top_structure(structure.parse().unwrap()).init(&device);
            let before = evaluate_clicks(&model, &test, 500);
            let recipe =
                ClickRecipe { epochs: 2, batch_size: 64, lr: 5e-3, factor_rates: 0.5, ..ClickRecipe::default() };
            let mut seen = 0;
            let trained = train_clicks(model, &train, &recipe, |step| {
                seen += 1;
                assert_eq!((step.step, step.steps), (seen, 2 * 94));
                ControlFlow::Continue(())
            });
            let after = evaluate_clicks(&trained.unwrap().model, &test, 500);
            assert!(after.auc.unwrap() > before.auc.unwrap() + 0.1, "{structure}: {before:?}, {after:?}");
            assert!(after.cross_entropy < before.cross_entropy, "{structure}: {before:?}, {after:?}");
        }
    }

    #[test]
    fn cross_entropy_is_that_of_the_logistic_function() {
        let device = Device::flex();
        let logits = Tensor::<1>::from_data([0.0f32, 3.0, -2.0], &device);
        let clicked = Tensor::<1>::from_data([1.0f32, 0.0, 1.0], &device);
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let expected = -(sigmoid(0.0).ln() + (1.0 - sigmoid(3.0)).ln() + sigmoid(-2.0).ln()) / 3.0;
        let found = cross_entropy(logits, clicked).into_scalar::<f64>();
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}
