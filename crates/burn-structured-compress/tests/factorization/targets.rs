//! What the methods find: matrices that BLAST contains exactly, whatever the shape, and clear errors for the rest.

use super::{device, tensor};
use burn::tensor::{DType, Tensor};
use burn_structured_compress::factorize::{
    BlastFactors, Factorization, FactorizerConfig, LevenbergMarquardt, Method, Progress, Start, StopReason,
};
use burn_structured_compress::{CompressError, Spectrum};
use burn_structured_nn::{Blocks, Rank};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ops::ControlFlow;
use std::sync::Arc;

pub fn drawn<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| 2.0 * (rng.next_u32() as f64 / u32::MAX as f64) - 1.0).collect();
    tensor(values, shape)
}

fn low_rank(m: usize, n: usize, rank: usize, seed: u64) -> Tensor<2> {
    drawn([m, rank], seed).matmul(drawn([rank, n], seed + 1))
}

fn config(blocks: usize, rank: usize) -> FactorizerConfig {
    FactorizerConfig::new().with_blocks(Blocks::Square(blocks)).with_rank(Rank::Fixed(rank))
}

/// The error of the layer itself, which owes nothing to the optimisation's books.
fn distance(found: &Factorization, matrix: usize, weight: &Tensor<2>) -> f64 {
    let difference = found.layer(matrix, None).to_dense() - weight.clone();
    let norm = |matrix: Tensor<2>| matrix.powf_scalar(2.0).sum().sqrt().into_scalar::<f64>();
    norm(difference) / norm(weight.clone())
}

#[test]
fn low_rank_matrix_is_exact_at_once() {
    for (m, n, rank) in [(24, 24, 3), (12, 40, 5), (40, 8, 2)] {
        let weight = low_rank(m, n, 2, 1);
        let found = config(4, rank).with_steps(5).init().factorize(weight.clone()).unwrap();
        assert!(distance(&found, 0, &weight) < 1e-12, "{m}x{n}, rank {rank}: {:?}", found.errors());
        assert!((found.errors()[0] - distance(&found, 0, &weight)).abs() < 1e-12);
    }
}

#[test]
fn blast_matrix_is_found_exactly() {
    let truth = BlastFactors { u: drawn([1, 3, 8, 2], 3), s: drawn([1, 3, 3, 2], 4), v: drawn([1, 3, 8, 2], 5) };
    let weight = truth.layer(0, None).to_dense();
    for method in [Method::Auto, Method::Als, Method::LevenbergMarquardt] {
        let found = config(3, 2).with_method(method).with_steps(200).init().factorize(weight.clone()).unwrap();
        assert!(distance(&found, 0, &weight) < 1e-9, "{method:?}: {:?}", found.errors());
    }
}

#[test]
fn auto_is_nearer_than_prec_gd_and_gd() {
    let weight = drawn([36, 24], 7);
    let error = |method: Method| {
        let found =
            config(3, 6).with_method(method).with_steps(30).with_patience(None).init().factorize(weight.clone());
        found.unwrap().errors()[0]
    };
    let (auto, prec_gd, gd) = (error(Method::Auto), error(Method::PREC_GD), error(Method::GD));
    assert!(auto < prec_gd && prec_gd < gd, "{auto}, {prec_gd}, {gd}");
}

#[test]
fn relaxed_step_never_raises_the_error() {
    let found = config(4, 5).with_steps(40).with_patience(None).init().factorize(drawn([32, 24], 9)).unwrap();
    for pair in found.trace.windows(2) {
        assert!(pair[1].errors[0] <= pair[0].errors[0] * (1.0 + 1e-9), "{pair:?}");
    }
}

#[test]
fn batch_equals_its_matrices_alone() {
    let weights = [drawn([12, 18], 11), drawn([12, 18], 12) * 100.0, low_rank(12, 18, 6, 13)];
    let batch = Tensor::stack(weights.to_vec(), 0);
    for method in [Method::Auto, Method::PREC_GD, Method::GD, Method::Als, Method::LevenbergMarquardt] {
        // Enough for some to be done before others.
        let config = config(3, 5).with_method(method).with_steps(24).with_tolerance(0.3).with_patience(Some(4));
        let together = config.init().factorize_batch(batch.clone()).unwrap();
        let mut lengths = Vec::new();
        for (together, weight) in together.into_matrices().zip(&weights) {
            let alone = config.init().factorize(weight.clone()).unwrap();
            assert_eq!(
                (&together.stop_reasons, together.trace.len()),
                (&alone.stop_reasons, alone.trace.len()),
                "{method:?}"
            );
            for (together, alone) in together.trace.iter().zip(&alone.trace) {
                let (together, alone) = (together.errors[0], alone.errors[0]);
                assert!((together - alone).abs() < 1e-9 * alone + 1e-13, "{method:?}: {together} against {alone}");
            }
            assert!((together.errors()[0] - distance(&together, 0, weight)).abs() < 1e-12, "{method:?}");
            lengths.push(together.trace.len());
        }
        if method == Method::Auto {
            lengths.dedup();
            assert!(lengths.len() > 1, "all were done at the same step, {lengths:?}");
        }
    }
}

#[test]
fn seed_determines_the_factors() {
    let weight = drawn([16, 16], 17);
    let run = |seed: u64| {
        let found = config(4, 3).with_seed(seed).with_steps(5).init().factorize(weight.clone()).unwrap();
        found.factors.u.into_data()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn half_precision_is_kept() {
    let weight = drawn([16, 24], 19).cast(DType::F16);
    let found = config(4, 6).with_steps(20).init().factorize(weight.clone()).unwrap();
    assert_eq!(found.factors.u.dtype(), DType::F16);
    let single = config(4, 6).with_steps(20).init().factorize(weight.cast(DType::F32)).unwrap();
    assert!((found.errors()[0] - single.errors()[0]).abs() < 1e-6);
}

#[test]
fn degenerate_matrix_is_factorized() {
    let constant = Tensor::<2>::ones([8, 12], &device()).cast(DType::F64) * 3.0;
    let found = config(4, 2).init().factorize(constant.clone()).unwrap();
    assert!(distance(&found, 0, &constant) < 1e-12);

    let zero = Tensor::<2>::zeros([8, 12], &device()).cast(DType::F64);
    let found = config(4, 2).init().factorize(zero).unwrap();
    assert_eq!((found.errors()[0], found.stop_reasons[0]), (0.0, StopReason::Tolerance));
    assert_eq!(found.layer(0, None).to_dense().abs().max().into_scalar::<f64>(), 0.0);

    let single = tensor(vec![-2.5], [1, 1]);
    let found = config(1, 1).init().factorize(single.clone()).unwrap();
    assert!(distance(&found, 0, &single) < 1e-12);

    let wide = drawn([2, 600], 21);
    let found = config(2, 2).init().factorize(wide.clone()).unwrap();
    assert!(distance(&found, 0, &wide) < 1e-9, "{:?}", found.errors());

    // The largest and the smallest numbers that f32 holds.
    for size in [1e37, 1e-37] {
        let extreme = (low_rank(8, 8, 2, 23) * size).cast(DType::F32);
        let found = config(2, 2).init().factorize(extreme).unwrap();
        assert!(found.errors()[0] < 1e-4, "{size}: {:?}", found.errors());
    }
}

#[test]
fn zero_matrix_leaves_the_others_alone() {
    let weight = drawn([12, 12], 25);
    let batch = Tensor::stack(vec![weight.clone(), weight.zeros_like()], 0);
    for method in [Method::Auto, Method::PREC_GD, Method::GD, Method::LevenbergMarquardt] {
        let found = config(3, 3).with_method(method).with_steps(10).init().factorize_batch(batch.clone()).unwrap();
        assert!(found.errors()[0] < 1.0 && found.errors()[1] < 1e-3, "{method:?}: {:?}", found.errors());
    }
}

#[test]
fn invalid_input_is_named() {
    let fails = |config: FactorizerConfig, weight: Tensor<2>| config.init().factorize(weight).unwrap_err().to_string();
    let mut values = vec![1.0; 64];
    values[19] = f64::NAN;
    values[60] = f64::INFINITY;
    let message = fails(config(2, 2), tensor(values, [8, 8]));
    assert_eq!(message, "2 entries of matrix 0 are NaN or infinite; the first is in row 2, column 3");
    let weight = drawn([8, 8], 27);
    assert!(fails(config(3, 2), weight.clone()).contains("3 equal blocks"));
    assert!(fails(config(2, 99), weight.clone()).contains("rank 99"));
    assert!(fails(config(2, 2).with_tolerance(-1.0), weight.clone()).contains("tolerance is -1"));
    assert!(fails(config(2, 2).with_seconds(Some(f64::NAN)), weight.clone()).contains("seconds is NaN"));
    assert!(fails(config(2, 2).with_patience(Some(0)), weight.clone()).contains("patience is 0"));
    let start = BlastFactors { u: drawn([1, 2, 4, 3], 1), s: drawn([1, 2, 2, 3], 1), v: drawn([1, 2, 4, 3], 1) };
    let error = config(2, 2).init().with_start(Start::Given(start)).factorize(weight.clone()).unwrap_err();
    assert!(matches!(error, CompressError::StartShape { name: "u", .. }), "{error}");
    let spectrum = Arc::new(Spectrum::new(&drawn([8, 6], 1), None).unwrap());
    let start = Start::Decomposed { spectrum, noise: 0.1 };
    let error = config(2, 2).init().with_start(start).factorize(weight.clone()).unwrap_err().to_string();
    assert!(error.contains("[8, 6]") && error.contains("[8, 8]"), "{error}");
    let error = config(2, 2).init().factorize_batch(Tensor::zeros([0, 8, 8], &device())).unwrap_err();
    assert!(matches!(error, CompressError::NoMatrix), "{error}");
    let moment = drawn([7, 7], 1);
    let error = config(2, 2).init().with_moment(moment).factorize(weight).unwrap_err();
    assert!(error.to_string().contains("[8, 8]"), "{error}");
}

#[test]
fn run_stops_for_the_right_reason() {
    let weight = drawn([24, 24], 29);
    let run = |config: FactorizerConfig| config.init().factorize(weight.clone()).unwrap();
    assert_eq!(run(config(4, 4).with_steps(3).with_patience(None)).stop_reasons, [StopReason::Steps]);
    assert_eq!(run(config(4, 4).with_steps(3)).trace.len(), 4);
    assert_eq!(run(config(4, 4).with_tolerance(0.99)).stop_reasons, [StopReason::Tolerance]);
    assert_eq!(run(config(4, 4).with_seconds(Some(0.0))).stop_reasons, [StopReason::Time]);
    let timed = run(config(4, 4).with_steps(1_000_000).with_patience(None).with_seconds(Some(0.2)));
    // The clock is looked at after every step.
    assert_eq!(timed.stop_reasons, [StopReason::Time]);
    assert!(timed.trace.len() > 2 && timed.trace[timed.trace.len() - 2].seconds < 0.2);
    let stalled = run(config(4, 4).with_steps(10_000).with_patience(Some(5)).with_least_improvement(0.01));
    assert_eq!(stalled.stop_reasons, [StopReason::Stalled]);
    let mut seen = 0;
    let observe = |progress: Progress| {
        seen += 1;
        if progress.point.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found = config(4, 4).init().with_observer(observe).factorize(weight.clone()).unwrap();
    assert_eq!((found.stop_reasons, seen), (vec![StopReason::Interrupted], 3));
    let none = run(config(4, 4).with_steps(0));
    assert_eq!((none.stop_reasons, none.trace.len()), (vec![StopReason::Steps], 1));
}

#[test]
fn custom_stepper_is_used() {
    let weight = low_rank(12, 12, 2, 31);
    let found = config(2, 3).init().with_stepper(LevenbergMarquardt::default()).factorize(weight.clone()).unwrap();
    assert!(distance(&found, 0, &weight) < 1e-9);
}

#[test]
fn metric_lowers_the_weighted_error() {
    let (weight, inputs) = (drawn([18, 24], 33), drawn([400, 24], 34).matmul(drawn([24, 24], 35)));
    let moment = inputs.clone().transpose().matmul(inputs.clone()) / 400.0;
    let config = config(3, 4).with_steps(60).with_patience(None);
    let plain = config.init().factorize(weight.clone()).unwrap();
    let weighted = config.init().with_moment(moment).factorize(weight.clone()).unwrap();
    let output = |found: &Factorization| {
        let norm = |outputs: Tensor<2>| outputs.powf_scalar(2.0).sum().sqrt().into_scalar::<f64>();
        let difference = found.layer(0, None).to_dense() - weight.clone();
        norm(inputs.clone().matmul(difference.transpose())) / norm(inputs.clone().matmul(weight.clone().transpose()))
    };
    assert!(output(&weighted) < 0.8 * output(&plain), "{} against {}", output(&weighted), output(&plain));
    assert!(distance(&weighted, 0, &weight) > distance(&plain, 0, &weight));
    // The error that is reported is that of the outputs, and falls at every step.
    assert!((weighted.errors()[0] / output(&weighted) - 1.0).abs() < 1e-6);
    for pair in weighted.trace.windows(2) {
        assert!(pair[1].errors[0] <= pair[0].errors[0] * (1.0 + 1e-9), "{pair:?}");
    }
    // The identity is no metric at all.
    let identity = Tensor::<2>::eye(24, &device()).cast(DType::F64);
    let same = config.init().with_moment(identity).factorize(weight.clone()).unwrap();
    assert!((same.errors()[0] / plain.errors()[0] - 1.0).abs() < 0.02);
}

#[test]
fn indefinite_moment_is_an_error() {
    let identity = Tensor::<2>::eye(8, &device()).cast(DType::F64);
    for moment in [-identity.clone(), identity.clone() * f64::NAN, identity * 0.0] {
        let error = config(2, 2).init().with_moment(moment).factorize(drawn([8, 8], 1)).unwrap_err();
        assert!(error.to_string().contains("positive definite"), "{error}");
    }
}
