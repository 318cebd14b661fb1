//! Streams of matrices: grouping changes the time they take, and nothing else.

use super::targets::drawn;
use super::tensor;
use burn::tensor::Tensor;
use burn_structured_compress::CompressError;
use burn_structured_compress::factorize::{Factorization, FactorizerConfig, NamedMatrix};
use burn_structured_nn::{Blocks, Rank};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn config() -> FactorizerConfig {
    FactorizerConfig::new().with_blocks(Blocks::Square(3)).with_rank(Rank::Ratio(0.4)).with_steps(12)
}

/// Three shapes in turn, one of them with known inputs.
fn matrices() -> Vec<NamedMatrix> {
    let matrix = |at: usize| {
        let shape = [[12, 18], [18, 12], [12, 12]][at % 3];
        let matrix = NamedMatrix::new(format!("layer {at}"), drawn(shape, at as u64));
        if at % 3 == 1 { matrix.with_moment(moment(12, at as u64)) } else { matrix }
    };
    (0..9).map(matrix).collect()
}

fn moment(features: usize, seed: u64) -> Tensor<2> {
    let inputs = drawn([40, features], 100 + seed);
    inputs.clone().transpose().matmul(inputs) / 40.0
}

fn alone(matrix: &NamedMatrix) -> Factorization {
    let mut factorizer = config().init();
    if let Some(moment) = &matrix.moment {
        factorizer = factorizer.with_moment(moment.clone());
    }
    factorizer.factorize(matrix.weight.clone()).unwrap()
}

#[test]
fn stream_result_is_independent_of_batches() {
    let expected: BTreeMap<String, f64> =
        matrices().into_iter().map(|matrix| (matrix.name.clone(), alone(&matrix).errors()[0])).collect();
    let reversed = || matrices().into_iter().rev();
    // Every one by itself; a few of a shape; all of a shape.
    for limit in [0, 1_000, usize::MAX] {
        let in_order = config().stream(matrices()).with_memory_limit(limit).collect::<Result<Vec<_>, _>>().unwrap();
        let backwards = config().stream(reversed()).with_memory_limit(limit).collect::<Result<Vec<_>, _>>().unwrap();
        for found in [in_order, backwards] {
            assert_eq!(found.len(), expected.len());
            for (name, found) in found {
                let (error, expected) = (found.errors()[0], expected[&name]);
                assert!((error / expected - 1.0).abs() < 1e-9, "limit {limit}, {name}: {error} against {expected}");
                assert_eq!((found.factors.matrices(), found.errors().len(), found.stop_reasons.len()), (1, 1, 1));
            }
        }
    }
}

#[test]
fn stream_stays_within_the_memory_limit() {
    let (taken, limit) = (Cell::new(0), 5 * 12 * 12);
    let squares = (0..20u64).map(|at| {
        taken.set(taken.get() + 1);
        NamedMatrix::new(at.to_string(), drawn([12, 12], at))
    });
    let (mut yielded, mut batches) = (0, Vec::new());
    let observe = |names: &[String], progress: burn_structured_compress::factorize::Progress| {
        if progress.point.step == 0 {
            batches.push(names.len());
        }
        ControlFlow::Continue(())
    };
    let mut stream = config().stream(squares).with_memory_limit(limit).with_observer(observe);
    for found in stream.by_ref() {
        assert_eq!(found.unwrap().0, yielded.to_string(), "one shape comes in the order it went in");
        // Those that are out, those of the batch they were in, and the one beyond the limit.
        assert!(taken.get() <= yielded + 5 + 1, "{} taken, {yielded} yielded", taken.get());
        yielded += 1;
    }
    drop(stream);
    assert_eq!((yielded, batches), (20, vec![5, 5, 5, 5]));
}

#[test]
fn stream_names_the_invalid_matrix() {
    let mut matrices = matrices();
    matrices[3].weight = tensor([vec![f64::NAN], vec![1.0; 12 * 18 - 1]].concat(), [12, 18]);
    matrices[4].moment = Some(-moment(12, 1));
    matrices[5].moment = Some(moment(7, 1));
    matrices[8].weight = drawn([11, 13], 1);
    let mut failed = BTreeMap::new();
    let mut found = 0;
    for result in config().stream(matrices.clone()) {
        match result {
            Ok((name, factors)) => {
                let matrix = matrices.iter().find(|matrix| matrix.name == name).unwrap();
                assert!((factors.errors()[0] / alone(matrix).errors()[0] - 1.0).abs() < 1e-9, "{name}");
                found += 1;
            }
            Err(CompressError::Layer { name, source }) => drop(failed.insert(name, source.to_string())),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((found, failed.len()), (5, 4), "{failed:?}");
    for (name, part) in
        [("layer 3", "row 0, column 0"), ("layer 4", "positive"), ("layer 5", "[7, 7]"), ("layer 8", "3")]
    {
        let message = failed[name].replace("[1, 7, 7]", "[7, 7]");
        assert!(message.contains(part), "{name}: {message}");
    }
}

#[test]
fn stream_continues_after_an_interrupted_batch() {
    let observe = |names: &[String], progress: burn_structured_compress::factorize::Progress| {
        let first = names.iter().any(|name| name == "layer 0");
        if first && progress.point.step == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found: BTreeMap<String, Factorization> =
        config().stream(matrices()).with_observer(observe).collect::<Result<_, _>>().unwrap();
    assert_eq!(found.len(), 9);
    assert_eq!((found["layer 0"].trace.len(), found["layer 2"].trace.len()), (2, 13));
}
