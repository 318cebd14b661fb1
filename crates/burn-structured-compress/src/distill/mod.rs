//! Distillation without labels: all blocks of a compressed model are trained together to imitate the dense one on raw text.
//!
//! The loss is `hidden · H + output · O + similarity · S + logits · L`, of a batch, with
//!
//! - `H`, the mean over the blocks of `‖h - h_dense‖² / ‖h_dense‖²` for the features `h` behind each;
//! - `O = ‖y - y_dense‖² / ‖y_dense‖²` for the model's output `y`, one row for each sentence (or token);
//! - `S`, the mean of `(cos(y_i, y_j) - cos(y_i, y_j)_dense)²` over all pairs of different rows of the output;
//! - `L = KL(p_dense ‖ p)`, the mean over the tokens, for the model's distributions `p` of the next token (Hinton, Vinyals, Dean,
//!   *Distilling the Knowledge in a Neural Network*, 2015). The logits of a few hundred tokens at a time are in memory.
//!
//! The parameters of the blocks are trained; embeddings and heads stay as they are.

mod loss;

use crate::CompressError;
use crate::error::check_not_negative;
use crate::optimize::{Budget, Settings, TrainingStep, train, with_tape};
use burn::config::Config;
use burn::tensor::Tensor;
use burn_structured_nn::BlockModel;
use loss::{divergence, divergence_loss, relative_error, similarity_error};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Instant;

/// How to distill.
#[derive(Config, Debug)]
pub struct DistillConfig {
    /// Weight of the features behind the blocks.
    #[config(default = 0.1)]
    pub hidden: f64,
    /// Weight of the output.
    #[config(default = 1.0)]
    pub output: f64,
    /// Weight of the similarities within a batch. It takes the products of all rows of the output: leave it at 0 for models whose
    /// output has a row for each token.
    #[config(default = 20.0)]
    pub similarity: f64,
    /// Weight of the distributions of the next token, for models that have [logits](BlockModel::logits).
    #[config(default = 0.0)]
    pub logits: f64,
    /// Which of the teacher's blocks every block of the student imitates, from 0; `None` if both have the same number.
    #[config(default = "None")]
    pub blocks: Option<Vec<usize>>,
    /// For how long.
    #[config(default = "Budget::Steps(1000)")]
    pub budget: Budget,
    /// The highest learning rate.
    #[config(default = 1e-4)]
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

/// What became of a distilled model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillReport {
    /// The steps that were done.
    pub steps: usize,
    /// `‖y - y_dense‖ / ‖y_dense‖` of the outputs on the held-out batches before.
    pub before: f64,
    /// The same afterwards.
    pub after: f64,
    /// The mean divergence of the distributions of the next token on the held-out batches before and afterwards, if the loss has it.
    pub divergence: Option<[f64; 2]>,
    /// The time it took.
    pub seconds: f64,
}

impl DistillReport {
    /// Whether the training lowered what it was to lower on the held-out batches: the divergence if the loss has it, or else the error
    /// of the output. If not, the model is as it was.
    pub fn improved(&self) -> bool {
        let [before, after] = self.divergence.unwrap_or([self.before, self.after]);
        after < before
    }
}

/// A distilled model.
#[derive(Debug)]
pub struct Distilled<M> {
    /// The model.
    pub model: M,
    /// How it went.
    pub report: DistillReport,
}

/// Trains the blocks of `student` to imitate the `teacher` on `batches`. The parameters that are better on `held_out` are kept, those
/// before or those after; see [`DistillReport::improved`].
///
/// # Errors
///
/// If a setting is out of range, the model has no logits that it is to be trained on, the blocks do not match, there are no batches, the training diverges, or the observer breaks.
pub fn distill<M: BlockModel>(
    student: M,
    teacher: &M,
    batches: &[M::Batch],
    held_out: &[M::Batch],
    config: &DistillConfig,
    observer: &mut dyn FnMut(&TrainingStep) -> ControlFlow<()>,
) -> Result<Distilled<M>, CompressError> {
    let began = Instant::now();
    if batches.is_empty() || held_out.is_empty() {
        return Err(CompressError::NoBatches);
    }
    let mut student = student;
    let teacher = teacher.valid();
    let pairs = matched(&student, &teacher, config)?;
    let before = output_error(&student, &teacher, held_out);
    let divergence = |student: &M| held_out_divergence(student, &teacher, held_out, config);
    let divergence_before = divergence(&student)?;
    let frozen = with_tape(student.clone());
    let settings = Settings {
        budget: config.budget,
        learning_rate: config.learning_rate,
        warmup: config.warmup,
        last_share: config.last_share,
        clip: config.clip,
        seed: config.seed,
    };
    let sizes: Vec<usize> = batches
        .iter()
        .map(|batch| {
            let [sentences, tokens, _] = student.embed(batch).dims();
            sentences * tokens
        })
        .collect();
    let mut outputs: Vec<Option<Tensor<2>>> = batches.iter().map(|_| None).collect();
    let mut loss = |blocks: &Vec<M::Block>, at: usize| {
        let batch = &batches[at];
        let states = |blocks: &[M::Block], features: Tensor<3>| {
            let mut states = vec![features];
            for block in blocks {
                states.push(M::forward_block(block, states[states.len() - 1].clone(), batch));
            }
            states.remove(0);
            states
        };
        // The dense hidden states are too many to keep; the outputs are not.
        let mut expected_states = Vec::new();
        let expected = match &outputs[at] {
            Some(output) if config.hidden == 0.0 => output.clone(),
            _ => {
                expected_states = states(teacher.blocks(), teacher.embed(batch));
                let last = expected_states[expected_states.len() - 1].clone();
                let output = teacher.output(last, batch);
                if config.hidden == 0.0 {
                    outputs[at] = Some(output.clone());
                }
                output
            }
        };
        let found = states(blocks, student.embed(batch).autodiff());
        let output = student.output(found[found.len() - 1].clone(), batch);
        let mut terms = Vec::new();
        if config.hidden > 0.0 {
            let errors = pairs.iter().map(|[ours, theirs]| {
                relative_error(found[*ours].clone(), expected_states[*theirs].clone().autodiff())
            });
            let count = pairs.len() as f64;
            terms.extend(errors.reduce(|sum, error| sum + error).map(|sum| sum * (config.hidden / count)));
        }
        if config.output > 0.0 {
            terms.push(relative_error(output.clone(), expected.clone().autodiff()) * config.output);
        }
        if config.similarity > 0.0 && output.dims()[0] > 1 {
            terms.push(similarity_error(output.clone(), expected.clone().autodiff()) * config.similarity);
        }
        if config.logits > 0.0 {
            let loss =
                divergence_loss(output.clone(), expected, |rows| frozen.logits(rows), |rows| teacher.logits(rows));
            terms.extend(loss.map(|loss| loss * config.logits));
        }
        // A batch of one sentence has no pairs.
        terms.into_iter().reduce(|sum, term| sum + term).unwrap_or_else(|| output.sum() * 0.0)
    };
    let trained = train(student.blocks().to_vec(), &sizes, &settings, &mut loss, observer)?;
    let start = student.blocks().to_vec();
    student.blocks_mut().clone_from_slice(&trained.module);
    let after = output_error(&student, &teacher, held_out);
    let divergence = divergence_before.zip(divergence(&student)?).map(<[f64; 2]>::from);
    let seconds = began.elapsed().as_secs_f64();
    let report = DistillReport { steps: trained.steps, before, after, divergence, seconds };
    if !report.improved() {
        student.blocks_mut().clone_from_slice(&start);
    }
    Ok(Distilled { model: student, report })
}

/// The mean divergence of the student's distributions of the next token from the teacher's, if the loss has it.
///
/// # Errors
///
/// If the model has no logits.
fn held_out_divergence<M: BlockModel>(
    student: &M,
    teacher: &M,
    batches: &[M::Batch],
    config: &DistillConfig,
) -> Result<Option<f64>, CompressError> {
    if config.logits == 0.0 {
        return Ok(None);
    }
    let (mut sum, mut rows) = (0.0, 0);
    for batch in batches {
        let [found, expected] = [student, teacher].map(|model| output_of(model, batch));
        let [count, _] = found.dims();
        let mean = divergence(found, expected, |rows| student.logits(rows), |rows| teacher.logits(rows));
        let range = "the model has no logits; use 0";
        let mean = mean.ok_or(CompressError::Setting { name: "logits", value: config.logits, range })?;
        sum += mean.into_scalar::<f64>() * count as f64;
        rows += count;
    }
    Ok(Some(sum / rows.max(1) as f64))
}

/// The output of a model.
pub(crate) fn output_of<M: BlockModel>(model: &M, batch: &M::Batch) -> Tensor<2> {
    let features = model.blocks().iter().fold(model.embed(batch), |x, block| M::forward_block(block, x, batch));
    model.output(features, batch)
}

/// `‖y - y_dense‖ / ‖y_dense‖` of the outputs of two models.
///
/// # Panics
///
/// If the outputs differ in shape.
pub fn output_error<M: BlockModel>(student: &M, teacher: &M, batches: &[M::Batch]) -> f64 {
    let square = |output: Tensor<2>| output.square().sum().into_scalar::<f64>();
    let (mut error, mut norm) = (0.0, 0.0);
    for batch in batches {
        let expected = output_of(teacher, batch);
        error += square(output_of(student, batch) - expected.clone());
        norm += square(expected);
    }
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// Blocks of the student with those of the teacher that they imitate.
fn matched<M: BlockModel>(student: &M, teacher: &M, config: &DistillConfig) -> Result<Vec<[usize; 2]>, CompressError> {
    for (name, weight) in [
        ("hidden", config.hidden),
        ("output", config.output),
        ("similarity", config.similarity),
        ("logits", config.logits),
    ] {
        check_not_negative(name, weight)?;
    }
    if config.hidden + config.output + config.similarity + config.logits == 0.0 {
        let range = "give at least one of the losses a weight";
        return Err(CompressError::Setting { name: "hidden", value: 0.0, range });
    }
    let (ours, theirs) = (student.blocks().len(), teacher.blocks().len());
    let imitated = match &config.blocks {
        Some(blocks) => blocks.clone(),
        None => (0..theirs).collect(),
    };
    if config.hidden > 0.0 && (imitated.len() != ours || imitated.iter().any(|block| *block >= theirs)) {
        return Err(CompressError::Imitated { student: ours, teacher: theirs, blocks: imitated });
    }
    Ok(imitated.into_iter().enumerate().map(|(ours, theirs)| [ours, theirs]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Toy, batches, parameters};
    use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};

    /// The nearest layers of low rank, each by itself.
    fn low_rank(toy: &Toy) -> Toy {
        let mut student = toy.clone();
        for block in student.blocks_mut() {
            for layer in Toy::linears_mut(block) {
                let structure: Structure = "low-rank:r=4".parse().unwrap();
                let config = StructuredLinearConfig::new(layer.d_input(), layer.d_output(), structure);
                let bias = StructuredLinear::bias(layer).map(|bias| bias.val());
                *layer = config.from_dense(layer.to_dense(), bias).unwrap().layer;
            }
        }
        student
    }

    fn run(student: Toy, teacher: &Toy, config: &DistillConfig) -> Result<Distilled<Toy>, CompressError> {
        distill(student, teacher, &batches(12, 10), &batches(4, 11), config, &mut |_| ControlFlow::Continue(()))
    }

    #[test]
    fn each_loss_lowers_the_output_error() {
        let teacher = Toy::new(2, 3);
        for weights in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.1, 1.0, 20.0]] {
            let [hidden, output, similarity] = weights;
            let config = DistillConfig::new()
                .with_hidden(hidden)
                .with_output(output)
                .with_similarity(similarity)
                .with_budget(Budget::Steps(120))
                .with_learning_rate(3e-3);
            let student = low_rank(&teacher);
            let [first, second] = [(); 2].map(|()| run(student.clone(), &teacher, &config).unwrap());
            assert!(first.report.after < 0.8 * first.report.before, "{weights:?}: {:?}", first.report);
            assert_eq!(first.report.before, output_error(&student, &teacher, &batches(4, 11)));
            for (a, b) in first.model.blocks.iter().zip(&second.model.blocks) {
                assert_eq!(parameters(a), parameters(b), "{weights:?}");
            }
        }
    }

    #[test]
    fn distill_keeps_the_better_parameters() {
        let teacher = Toy::new(2, 3);
        let student = low_rank(&teacher);
        let config = DistillConfig::new().with_budget(Budget::Steps(3)).with_learning_rate(1.0);
        let found = run(student.clone(), &teacher, &config).unwrap();
        assert!(found.report.after > found.report.before, "{:?}", found.report);
        for (a, b) in found.model.blocks.iter().zip(&student.blocks) {
            assert_eq!(parameters(a), parameters(b));
        }
    }

    #[test]
    fn a_student_of_fewer_blocks_imitates_those_named() {
        let teacher = Toy::new(3, 3);
        let mut student = low_rank(&teacher);
        student.blocks.remove(1);
        let config = DistillConfig::new().with_budget(Budget::Steps(30)).with_learning_rate(3e-3);
        let error = run(student.clone(), &teacher, &config).unwrap_err().to_string();
        assert!(error.contains("the student's 2 blocks cannot imitate blocks [0, 1, 2] of the teacher's 3"), "{error}");
        let found = run(student, &teacher, &config.with_blocks(Some(vec![0, 2]))).unwrap();
        assert!(found.report.after < found.report.before, "{:?}", found.report);
    }

    #[test]
    fn invalid_settings_are_errors() {
        let teacher = Toy::new(1, 3);
        let fails = |config: DistillConfig| run(teacher.clone(), &teacher, &config).unwrap_err().to_string();
        let config = DistillConfig::new().with_budget(Budget::Steps(1));
        assert!(fails(config.clone().with_hidden(-1.0)).contains("hidden is -1"));
        let nothing = config.clone().with_hidden(0.0).with_output(0.0).with_similarity(0.0);
        assert!(fails(nothing).contains("give at least one of the losses a weight"));
        assert!(fails(config.with_clip(0.0)).contains("clip"));
    }
}
