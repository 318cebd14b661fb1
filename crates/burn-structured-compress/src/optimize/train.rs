//! The training loop.

use super::clip::clip_global_norm;
use super::lift::{lifted, lowered};
use super::schedule::Schedule;
use super::{Budget, TrainingStep};
use crate::CompressError;
use crate::error::{check_not_negative, check_positive};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::ops::ControlFlow;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub budget: Budget,
    pub learning_rate: f64,
    /// Share of the steps.
    pub warmup: f64,
    /// The last rate, as a share of the peak.
    pub last_share: f64,
    /// The largest norm of all gradients together.
    pub clip: f64,
    /// Seed of the order of the batches.
    pub seed: u64,
}

impl Settings {
    fn check(&self) -> Result<(), CompressError> {
        check_positive("learning_rate", self.learning_rate)?;
        check_positive("clip", self.clip)?;
        check_not_negative("warmup", self.warmup)?;
        check_not_negative("last_share", self.last_share)?;
        for (name, value) in [("warmup", self.warmup), ("last_share", self.last_share)] {
            if value > 1.0 {
                return Err(CompressError::Setting { name, value, range: "use a share from 0 to 1" });
            }
        }
        Ok(())
    }
}

/// A trained module.
pub(crate) struct Trained<B> {
    pub module: B,
    pub steps: usize,
}

/// Trains all parameters of `module` on `loss` of one batch a step, each a mean; `sizes` are the numbers of tokens of the batches,
/// in proportion to which the batches count.
///
/// # Errors
///
/// If a setting is out of range, there is no batch, a loss is not finite, or the observer breaks.
pub(crate) fn train<B: Module>(
    module: B,
    sizes: &[usize],
    settings: &Settings,
    loss: &mut dyn FnMut(&B, usize) -> Tensor<1>,
    observer: &mut dyn FnMut(&TrainingStep) -> ControlFlow<()>,
) -> Result<Trained<B>, CompressError> {
    settings.check()?;
    if sizes.is_empty() {
        return Err(CompressError::NoBatches);
    }
    let average = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    let work = |batch: usize| sizes[batch] as f64 / average;
    let mut step = |state: State<B>, batch: usize, rate: f64| state.step(batch, rate, work(batch), settings.clip, loss);

    let mut order = Order::new(sizes.len(), settings.seed);
    let mut trial = Some(State::new(module.clone()));
    let steps = settings.budget.steps(|_| {
        let batch = order.next();
        if let Some(state) = trial.take() {
            // Steps too small to diverge, which take as long.
            trial = Some(step(state, batch, 0.01 * settings.learning_rate)?.0);
        }
        Ok(work(batch))
    })?;
    drop(trial);

    let schedule = Schedule { peak: settings.learning_rate, warmup: settings.warmup, last: settings.last_share, steps };
    let mut order = Order::new(sizes.len(), settings.seed);
    let mut state = State::new(module);
    for number in 0..steps {
        let learning_rate = schedule.rate(number);
        let (next, loss) = step(state, order.next(), learning_rate)?;
        state = next;
        if observer(&TrainingStep { step: number + 1, steps, loss, learning_rate }).is_break() {
            return Err(CompressError::Interrupted);
        }
    }
    Ok(Trained { module: lowered(state.module), steps })
}

/// A module in training.
struct State<B> {
    module: B,
    optimizer: ModuleOptimizer,
}

impl<B: Module> State<B> {
    fn new(module: B) -> Self {
        let optimizer = AdamWConfig::new().with_weight_decay(0.0).with_epsilon(1e-8).init();
        Self { module: lifted(module), optimizer }
    }

    /// The state after a step, and the loss before it.
    fn step(
        mut self,
        batch: usize,
        rate: f64,
        weight: f64,
        clip: f64,
        loss: &mut dyn FnMut(&B, usize) -> Tensor<1>,
    ) -> Result<(Self, f64), CompressError> {
        let loss = loss(&self.module, batch);
        let value = loss.clone().without_autodiff().into_scalar::<f64>();
        if !value.is_finite() {
            return Err(CompressError::Training { rate });
        }
        let gradients = GradientsParams::from_grads((loss * weight).backward(), &self.module);
        let gradients = clip_global_norm(&self.module, gradients, clip);
        self.module = self.optimizer.step(rate, self.module, gradients);
        Ok((self, value))
    }
}

/// The batches in the order of training: all of them once, then again in another order.
struct Order {
    rng: StdRng,
    batches: Vec<usize>,
    at: usize,
}

impl Order {
    fn new(count: usize, seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), batches: (0..count).collect(), at: count }
    }

    fn next(&mut self) -> usize {
        if self.at == self.batches.len() {
            self.batches.shuffle(&mut self.rng);
            self.at = 0;
        }
        self.at += 1;
        self.batches[self.at - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_takes_every_batch_once_an_epoch() {
        let mut order = Order::new(5, 3);
        let taken: Vec<usize> = (0..10).map(|_| order.next()).collect();
        for epoch in taken.chunks(5) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert_ne!(taken[..5], taken[5..]);
        let mut again = Order::new(5, 3);
        assert_eq!(taken, (0..10).map(|_| again.next()).collect::<Vec<_>>());
    }
}
