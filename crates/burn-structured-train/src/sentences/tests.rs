//! A tiny encoder with random weights on pairs of random tokens.

use super::{FineTuneConfig, FineTuneStep, FineTuned, TokenPairs, fine_tune};
use crate::training::TrainingError;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured_models::bert::{Bert, BertConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::ControlFlow;

/// A model whose weights are drawn by a generator of its own, as the device's is shared by all tests of a process; norms stay as they
/// begin, and biases are 0.
fn model(structure: &str, seed: u64) -> Bert {
    struct Drawn(StdRng);
    impl ModuleMapper for Drawn {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let dims = param.val().dims();
            if D < 2 {
                // The scales of norms are all 1.
                return param.map(|value| value.equal_elem(1.0).float());
            }
            let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.0.random_range(-0.5..0.5)).collect();
            param.map(|value| Tensor::from_data(TensorData::new(values, dims), &value.device()))
        }
    }
    let config = BertConfig::new(20).with_d_model(16).with_depth(2).with_heads(2).with_d_hidden(32);
    let config = config.with_max_positions(12).with_structure(structure.parse().unwrap());
    config.init(&Device::flex()).map(&mut Drawn(StdRng::seed_from_u64(seed)))
}

/// Pairs whose score is high if both sentences have tokens of the same half of the vocabulary.
fn pairs(count: usize, seed: u64) -> TokenPairs {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sentence = |half: u32| {
        let length = rng.random_range(2..8);
        (0..length).map(|_| 2 + 9 * half + rng.random_range(0..9u32)).collect::<Vec<u32>>()
    };
    let halves = |pair: usize| [(pair % 2) as u32, (pair / 2 % 2) as u32];
    let sentences = (0..count).map(|pair| halves(pair).map(&mut sentence)).collect();
    let score = |pair: usize| if pair % 2 == pair / 2 % 2 { 4.0 } else { 1.0 };
    // Nearly all scores differ, as people's do.
    let scores = (0..count).map(|pair| score(pair) + (pair % 10) as f64 / 10.0).collect();
    TokenPairs { sentences, scores, pad_id: 0 }
}

fn config() -> FineTuneConfig {
    FineTuneConfig::new().with_epochs(3).with_batch_size(8).with_lr(3e-3)
}

fn quiet(_: &FineTuneStep) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// All parameters with their shapes, in order.
fn parameters(model: &Bert) -> Vec<(Vec<usize>, Vec<f32>)> {
    struct Values(Vec<(Vec<usize>, Vec<f32>)>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            self.0.push((value.dims().to_vec(), value.into_data().iter::<f32>().collect()));
        }
    }
    let mut values = Values(Vec::new());
    model.visit(&mut values);
    values.0
}

#[test]
fn fine_tuning_learns_to_rank_held_out_pairs() {
    let (train, held_out) = (pairs(128, 1), pairs(40, 2));
    for structure in ["dense", "blast:b=2,r=4", "ss1:c=2,k=4,n=4"] {
        let start = model(structure, 3);
        let before = held_out.spearman(&start).unwrap();
        let loss = |model: &Bert| {
            let all: Vec<usize> = (0..held_out.len()).collect();
            held_out.batch(&all, &model.device()).loss(model).into_scalar::<f64>()
        };
        let loss_before = loss(&start);
        let mut steps = Vec::new();
        let tuned = fine_tune(start, &train, &held_out, &config(), |step| {
            steps.push(*step);
            ControlFlow::Continue(())
        });
        let FineTuned { model, epochs, stopped, .. } = tuned.unwrap();
        assert!(!stopped && epochs.len() == 3, "{epochs:?}");
        assert!(epochs[2].loss < 0.7 * epochs[0].loss, "{structure}: {epochs:?}");
        assert!(epochs[2].spearman > before, "{structure}: {before}, {epochs:?}");
        assert!(loss(&model) < 0.8 * loss_before, "{structure}: {loss_before}, {}", loss(&model));
        // The last weights are the result.
        assert_eq!(held_out.spearman(&model).unwrap(), epochs[2].spearman);
        assert_eq!(steps.iter().map(|step| step.step).collect::<Vec<_>>(), (1..=48).collect::<Vec<_>>());
        let peak = steps.iter().map(|step| step.lr).fold(0.0, f64::max);
        assert!((peak - 3e-3).abs() < 1e-12 && steps[0].lr < peak && steps[47].lr < 0.1 * peak, "{steps:?}");
    }
}

#[test]
fn fine_tuning_repeats_with_its_seed() {
    let (train, held_out) = (pairs(20, 1), pairs(20, 2));
    let run = |seed| {
        let config = config().with_epochs(1).with_seed(seed);
        parameters(&fine_tune(model("dense", 3), &train, &held_out, &config, quiet).unwrap().model)
    };
    assert!(run(5) == run(5), "the same seed gave other weights");
    assert!(run(5) != run(6), "another seed gave the same weights");
}

#[test]
fn embeddings_are_trained_on_request_only() {
    let (train, held_out) = (pairs(16, 1), pairs(20, 2));
    for embeddings in [false, true] {
        let start = model("dense", 3);
        let config = config().with_epochs(1).with_embeddings(embeddings);
        let tuned = fine_tune(start.clone(), &train, &held_out, &config, quiet).unwrap().model;
        let words = |model: &Bert| model.embeddings.words.weight.val().into_data();
        assert_eq!(words(&tuned) != words(&start), embeddings);
        assert_ne!(
            tuned.layers[0].intermediate.to_dense().into_data(),
            start.layers[0].intermediate.to_dense().into_data()
        );
    }
}

#[test]
fn loss_gradient_is_that_of_differences() {
    let pairs = pairs(6, 4);
    let start = model("low-rank:r=4", 3);
    let batch = |device: &Device| pairs.batch(&[0, 1, 2, 3, 4, 5], device);
    let tape = start.clone().train();
    let mut gradients = GradientsParams::from_grads(batch(&tape.device()).loss(&tape).backward(), &tape);
    let bias = &tape.layers[1].output_norm.gamma;
    let gradient: Vec<f64> = gradients.remove::<1>(bias.id).unwrap().into_data().iter::<f64>().collect();
    let loss = |feature: usize, change: f64| {
        let mut moved = start.clone();
        let unit: Vec<f32> = (0..16).map(|at| if at == feature { change as f32 } else { 0.0 }).collect();
        let unit = Tensor::<1>::from_data(unit.as_slice(), &moved.device());
        moved.layers[1].output_norm.gamma = start.layers[1].output_norm.gamma.clone().map(|gamma| gamma + unit);
        batch(&moved.device()).loss(&moved).into_scalar::<f64>()
    };
    let step = 1e-2;
    for (feature, gradient) in gradient.iter().enumerate() {
        let difference = (loss(feature, step) - loss(feature, -step)) / (2.0 * step);
        // Roundoff of a loss of about 0.1 in f32 over the step, and the third derivative times its square.
        assert!((difference - gradient).abs() < 2e-3 * gradient.abs() + 2e-4, "{feature}: {gradient}, {difference}");
    }
    assert!(gradient.iter().any(|gradient| gradient.abs() > 2e-3), "{gradient:?}");
}

#[test]
fn epoch_takes_every_pair_once_by_length() {
    let pairs = pairs(30, 1);
    let epoch = |seed| pairs.epoch(8, &mut StdRng::seed_from_u64(seed));
    let batches = epoch(1);
    let mut all = batches.concat();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    // No batch reaches into the lengths of another.
    let range = |batch: &Vec<usize>| {
        let lengths: Vec<usize> = batch.iter().map(|pair| pairs.length(*pair)).collect();
        (*lengths.iter().min().unwrap(), *lengths.iter().max().unwrap())
    };
    let mut ranges: Vec<_> = batches.iter().map(range).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    assert_eq!(batches, epoch(1));
    assert_ne!(batches, epoch(2));
}

#[test]
fn broken_progress_ends_the_training() {
    let stop = |step: &FineTuneStep| if step.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let tuned = fine_tune(model("dense", 3), &pairs(64, 1), &pairs(20, 2), &config(), stop).unwrap();
    assert!(tuned.stopped && tuned.epochs.is_empty(), "{:?}", tuned.epochs);
}

#[test]
fn unusable_settings_and_pairs_are_errors() {
    let (train, held_out) = (pairs(16, 1), pairs(20, 2));
    let fails = |train: &TokenPairs, held_out: &TokenPairs, config: FineTuneConfig| {
        fine_tune(model("dense", 3), train, held_out, &config, quiet).unwrap_err().to_string()
    };
    for (config, message) in [
        (config().with_epochs(0), "epochs = 0"),
        (config().with_batch_size(0), "batch size = 0"),
        (config().with_lr(0.0), "lr = 0"),
        (config().with_warmup(1.5), "warm-up = 1.5"),
        (config().with_weight_decay(-1.0), "weight decay = -1"),
        (config().with_clip(0.0), "clip = 0"),
    ] {
        let error = fails(&train, &held_out, config);
        assert!(error.starts_with(message), "{error}");
    }
    let none = TokenPairs::default();
    assert!(fails(&none, &held_out, config()).starts_with("there is no sentence pair to train on"));
    assert!(fails(&train, &none, config()).starts_with("0 sentence pairs cannot be ranked"));
    let mut broken = train.clone();
    broken.scores[3] = 5.5;
    assert!(fails(&broken, &held_out, config()).starts_with("the score of pair 3 is 5.5"));
    broken = train.clone();
    broken.sentences[2][1].clear();
    assert!(fails(&broken, &held_out, config()).starts_with("a sentence of pair 2 has no tokens"));
}

#[test]
fn diverged_training_is_one_error() {
    let mut start = model("dense", 3);
    let gamma = &mut start.layers[0].output_norm.gamma;
    *gamma = gamma.clone().map(|gamma| gamma * f32::NAN);
    let error = fine_tune(start, &pairs(16, 1), &pairs(20, 2), &config(), quiet).unwrap_err();
    assert!(matches!(error, TrainingError::Diverged { step: 1, .. }), "{error}");
}
