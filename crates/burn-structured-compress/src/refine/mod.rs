//! Block refinement: all parameters of a compressed block are trained to give the dense block's outputs.
//!
//! With the dense block `f`, its inputs `x`, the compressed block `f̂` and its inputs `x̂` behind the compressed prefix, the loss is
//! the mean of `(f(x) - f̂(x̂))²` (AA-SVD, arXiv 2604.02119). The factors, biases and norms of the block are trained, by AdamW with
//! a linear warm-up and a cosine; no label is needed, and one block with its features is all that is held.

use crate::CompressError;
use crate::optimize::{Budget, Settings, TrainingStep, train};
use crate::sequential::Prefix;
use burn::config::Config;
use burn_structured_nn::BlockModel;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Instant;

/// How to refine a block.
#[derive(Config, Debug)]
pub struct RefineConfig {
    /// For how long.
    #[config(default = "Budget::Steps(400)")]
    pub budget: Budget,
    /// The highest learning rate.
    #[config(default = 5e-4)]
    pub learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    #[config(default = 0.1)]
    pub warmup: f64,
    /// The last learning rate, as a share of the highest.
    #[config(default = 0.1)]
    pub last_share: f64,
    /// The largest norm of all gradients together.
    #[config(default = 1.0)]
    pub clip: f64,
    /// Seed of the order of the batches.
    #[config(default = 0)]
    pub seed: u64,
}

/// What became of a refined block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefineReport {
    /// The steps that were done.
    pub steps: usize,
    /// `‖f(x) - f̂(x̂)‖ / ‖f(x)‖` on the held-out batches before.
    pub before: f64,
    /// The same afterwards. If it is not lower, the block is as it was.
    pub after: f64,
    /// The time it took.
    pub seconds: f64,
}

/// Trains block `index` of the `student` on the features of `prefix`, which have to be in front of this block. The parameters of
/// lower error on the held-out batches are kept, those before or those after.
///
/// # Errors
///
/// If the features are in front of another block, a setting is out of range, the training diverges, or the observer breaks.
pub(crate) fn refine_block<M: BlockModel>(
    prefix: &Prefix<M>,
    student: &mut M,
    index: usize,
    config: &RefineConfig,
    observer: &mut dyn FnMut(&TrainingStep) -> ControlFlow<()>,
) -> Result<RefineReport, CompressError> {
    let began = Instant::now();
    prefix.check(index)?;
    let teacher = &prefix.teacher.blocks()[index];
    let block = student.blocks()[index].clone();
    let before = prefix.output_error(&block);
    let settings = Settings {
        budget: config.budget,
        learning_rate: config.learning_rate,
        warmup: config.warmup,
        last_share: config.last_share,
        clip: config.clip,
        seed: config.seed,
    };
    let mut loss = |block: &M::Block, at: usize| {
        let sample = &prefix.calibration[at];
        let found = M::forward_block(block, sample.compressed.clone().autodiff(), &sample.batch);
        (found - sample.target(teacher).clone().autodiff()).square().mean()
    };
    let trained = train(block, &prefix.sizes(), &settings, &mut loss, observer)?;
    let after = prefix.output_error(&trained.module);
    if after < before {
        student.blocks_mut()[index] = trained.module;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(RefineReport { steps: trained.steps, before, after, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factorize::FactorizerConfig;
    use crate::sequential::SequentialConfig;
    use crate::toy::{Toy, batches, parameters};

    /// The first block in low rank, with the features in front of it.
    fn compressed() -> (Toy, Prefix<Toy>) {
        let toy = Toy::new(1, 3);
        let mut student = toy.clone();
        let prefix = Prefix::new(&toy, &batches(12, 10), &batches(4, 11)).unwrap();
        let config = SequentialConfig::new().with_factorizer(FactorizerConfig::new().with_steps(8));
        let structures = [Some("low-rank:r=4".parse().unwrap()); 3];
        prefix.compress_block(&mut student, 0, &structures, &config, &mut |_| ControlFlow::Continue(())).unwrap();
        (student, prefix)
    }

    fn refined(config: &RefineConfig) -> (Toy, RefineReport) {
        let (mut student, prefix) = compressed();
        let report = refine_block(&prefix, &mut student, 0, config, &mut |_| ControlFlow::Continue(())).unwrap();
        (student, report)
    }

    #[test]
    fn refine_block_lowers_the_held_out_error() {
        let config = RefineConfig::new().with_budget(Budget::Steps(150)).with_learning_rate(3e-3);
        let (student, report) = refined(&config);
        assert_eq!(report.steps, 150);
        assert!(report.after < 0.97 * report.before, "{report:?}");
        assert!(!student.blocks[0].up.to_dense().is_autodiff());
    }

    #[test]
    fn refine_block_keeps_the_better_parameters() {
        let config = RefineConfig::new().with_budget(Budget::Steps(3)).with_learning_rate(1.0);
        let (student, report) = refined(&config);
        assert!(report.after > report.before, "{report:?}");
        assert_eq!(parameters(&student.blocks[0]), parameters(&compressed().0.blocks[0]));
    }

    #[test]
    fn steps_of_a_time_repeat_bit_for_bit() {
        let config = RefineConfig::new().with_learning_rate(3e-3);
        let (timed, report) = refined(&config.clone().with_budget(Budget::Seconds(0.3)));
        let (counted, again) = refined(&config.with_budget(Budget::Steps(report.steps)));
        assert_eq!(again.steps, report.steps);
        assert_eq!((again.before, again.after), (report.before, report.after));
        assert_eq!(parameters(&timed.blocks[0]), parameters(&counted.blocks[0]));
    }

    #[test]
    fn invalid_settings_are_errors() {
        let (mut student, prefix) = compressed();
        let mut fails = |config: RefineConfig, index: usize, flow: ControlFlow<()>| {
            refine_block(&prefix, &mut student, index, &config, &mut |_| flow).unwrap_err().to_string()
        };
        let (config, go) = (RefineConfig::new(), ControlFlow::Continue(()));
        assert!(fails(config.clone().with_learning_rate(0.0), 0, go).contains("learning_rate"));
        assert!(fails(config.clone().with_warmup(2.0), 0, go).contains("warmup"));
        assert!(fails(config.clone().with_budget(Budget::Seconds(-1.0)), 0, go).contains("seconds"));
        assert!(fails(config.clone(), 1, go).contains("block 1"));
        assert_eq!(fails(config, 0, ControlFlow::Break(())), "interrupted");
    }
}
