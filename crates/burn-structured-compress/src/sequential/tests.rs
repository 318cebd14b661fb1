use super::moments::{Pair, PairMoments};
use super::*;
use crate::Budget;
use crate::refine::{RefineConfig, refine_block};
use crate::toy::{Block, Decoder, Toy, batches, parameters};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use burn_structured_nn::BlockModel;
use faer::{Mat, MatRef};
use std::ops::ControlFlow;

fn random(rows: usize, columns: usize) -> Mat<f64> {
    let values = Tensor::<2>::random([rows, columns], Distribution::Normal(0.0, 1.0), &Device::flex());
    let values: Vec<f64> = values.into_data().iter::<f64>().collect();
    MatRef::from_row_major_slice(&values, rows, columns).to_owned()
}

fn tensor(matrix: &Mat<f64>) -> Tensor<2> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let values: Vec<f64> = (0..rows * columns).map(|at| matrix[(at / columns, at % columns)]).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), (&Device::flex(), DType::F64))
}

fn square(matrix: &Mat<f64>) -> f64 {
    matrix.squared_norm_l2()
}

/// Inputs `[tokens, n]` of the dense model and the disturbed ones of the compressed, both with a mean.
fn inputs(tokens: usize, n: usize) -> [Mat<f64>; 2] {
    let dense = random(tokens, n) * random(n, n) + Mat::from_fn(tokens, n, |_, column| column as f64 * 0.3);
    let compressed = &dense * random(n, n) * faer::Scale(0.2) + &dense + random(tokens, n) * faer::Scale(0.5);
    [dense, compressed]
}

fn moments(dense: &Mat<f64>, compressed: &Mat<f64>, lack: Option<&Mat<f64>>) -> PairMoments {
    let mut moments = PairMoments::new(dense.ncols(), lack.map(Mat::ncols));
    let tokens = dense.nrows();
    for (first, count) in [(0, tokens / 3), (tokens / 3, tokens - tokens / 3)] {
        let some = |matrix: &Mat<f64>| tensor(matrix).narrow(0, first, count);
        moments.add(Pair { dense: some(dense), compressed: some(compressed), lack: lack.map(some) }).unwrap();
    }
    moments.sum().unwrap();
    moments
}

/// The inputs less their means.
fn centred(inputs: &Mat<f64>) -> Mat<f64> {
    let mean =
        |column: usize| (0..inputs.nrows()).map(|row| inputs[(row, column)]).sum::<f64>() / inputs.nrows() as f64;
    let means: Vec<f64> = (0..inputs.ncols()).map(mean).collect();
    Mat::from_fn(inputs.nrows(), inputs.ncols(), |row, column| inputs[(row, column)] - means[column])
}

#[test]
fn anchor_turns_the_objective_into_a_distance() {
    Device::flex().seed(1);
    let (tokens, n, m, regularization) = (60, 7, 5, 0.05);
    let [dense, compressed] = inputs(tokens, n);
    let weight = random(m, n);
    for with_means in [true, false] {
        let (x, x_hat) =
            if with_means { (centred(&dense), centred(&compressed)) } else { (dense.clone(), compressed.clone()) };
        // The scale that gives the moment a mean diagonal of 1.
        let scale = (n * tokens) as f64 / square(&x_hat);
        for (alpha, residual) in [0.0, 0.3, 1.0].into_iter().flat_map(|alpha| [(alpha, false), (alpha, true)]) {
            let lack = (random(tokens, m) + &compressed * random(n, m)) * faer::Scale(f64::from(residual));
            let anchor =
                moments(&dense, &compressed, residual.then_some(&lack)).anchor(regularization, with_means).unwrap();
            let target = anchor.target(&weight, alpha);
            let lack = if with_means { centred(&lack) } else { lack };
            let anchored = &x_hat * faer::Scale(1.0 - alpha) + &x * faer::Scale(alpha);
            let constants: Vec<f64> = (0..4)
                .map(|_| {
                    let found = random(m, n);
                    let outputs =
                        &anchored * weight.transpose() - &x_hat * found.transpose() + &lack * faer::Scale(alpha);
                    let objective =
                        square(&outputs) * scale / tokens as f64 + regularization * square(&(&weight - &found));
                    let difference = &target - &found;
                    let weighted = &difference * &anchor.gram;
                    let distance: f64 =
                        (0..n).map(|column| difference.col(column).transpose() * weighted.col(column)).sum();
                    objective - distance
                })
                .collect();
            for constant in &constants {
                assert!((constant - constants[0]).abs() < 1e-9 * (1.0 + constants[0].abs()), "{alpha}: {constants:?}");
            }
        }
    }
}

#[test]
fn full_correction_solves_the_normal_equations() {
    Device::flex().seed(2);
    let (tokens, n, m) = (50, 6, 4);
    let [dense, compressed] = inputs(tokens, n);
    let weight = random(m, n);
    let lack = random(tokens, m) + &compressed * random(n, m) + Mat::from_fn(tokens, m, |_, row| 1.0 + row as f64);
    let anchor = moments(&dense, &compressed, Some(&lack)).anchor(1e-12, true).unwrap();
    let target = anchor.target(&weight, 1.0);
    let shift = anchor.shift(&weight, &target);
    // The residual of a least-squares fit with an intercept is orthogonal to the inputs and to 1.
    let residual = Mat::from_fn(tokens, m, |token, row| {
        let output = |weight: &Mat<f64>, inputs: &Mat<f64>| -> f64 {
            (0..n).map(|column| weight[(row, column)] * inputs[(token, column)]).sum()
        };
        lack[(token, row)] + output(&weight, &dense) - output(&target, &compressed) - shift[row]
    });
    let products = compressed.transpose() * &residual;
    assert!(square(&products).sqrt() < 1e-6 * square(&compressed).sqrt() * square(&residual).sqrt());
    let sums = (0..m).map(|row| (0..tokens).map(|token| residual[(token, row)]).sum::<f64>().abs());
    assert!(sums.fold(0.0, f64::max) < 1e-9);
}

#[test]
fn invalid_inputs_are_errors() {
    let device = Device::flex();
    let zeros = |rows, columns| Tensor::<2>::zeros([rows, columns], &device);
    let fails = |residual: Option<usize>, dense: Tensor<2>, compressed: Tensor<2>, lack: Option<Tensor<2>>| {
        let mut moments = PairMoments::new(3, residual);
        let added = moments.add(Pair { dense, compressed, lack }).and_then(|()| moments.sum());
        added.unwrap_err().to_string()
    };
    let error = fails(None, zeros(2, 4), zeros(2, 4), None);
    assert!(error.contains("4 features"), "{error}");
    let error = fails(None, zeros(2, 3), zeros(1, 3), None);
    assert!(error.contains("the dense layer has 2 inputs, the compressed one 1"), "{error}");
    for (residual, lack) in
        [(Some(5), Some(zeros(2, 4))), (Some(5), Some(zeros(1, 5))), (Some(5), None), (None, Some(zeros(2, 5)))]
    {
        let error = fails(residual, zeros(2, 3), zeros(2, 3), lack);
        assert!(error.contains("residual of shape"), "{error}");
    }
    let error = fails(None, zeros(1, 3), Tensor::from_data([[0.0, f32::NAN, 0.0]], &device), None);
    assert!(error.contains("feature 1"), "{error}");
}

fn structures(text: &str) -> [Option<Structure>; 3] {
    [Some(text.parse().unwrap()); 3]
}

/// A model of which all blocks are compressed.
fn compressed(toy: &Toy, text: &str, config: &SequentialConfig) -> (Toy, Vec<BlockReport>) {
    let mut student = toy.clone();
    let mut prefix = Prefix::new(toy, &batches(12, 10), &batches(4, 11)).unwrap();
    let reports = (0..toy.blocks.len())
        .map(|block| {
            let report = prefix
                .compress_block(&mut student, block, &structures(text), config, &mut |_| ControlFlow::Continue(()))
                .unwrap();
            prefix.advance(&student, block).unwrap();
            report
        })
        .collect();
    (student, reports)
}

fn config(alphas: &[f64]) -> SequentialConfig {
    SequentialConfig::new().with_alphas(alphas.to_vec()).with_factorizer(FactorizerConfig::new().with_steps(8))
}

#[test]
fn every_structure_is_compressed_block_after_block() {
    let toy = Toy::new(2, 3);
    for text in
        ["blast:b=2,ratio=0.7", "low-rank:ratio=0.7", "monarch:b=2,ratio=0.7", "ss1:c=2,k=2", "block-diagonal:b=2"]
    {
        let (student, reports) = compressed(&toy, text, &config(&[0.0, 0.5]));
        for (block, report) in reports.iter().enumerate() {
            let names: Vec<_> = report.layers.iter().map(|layer| layer.name.as_str()).collect();
            assert_eq!(names, ["up", "gate", "down"].map(|name| format!("blocks.{block}.{name}")));
            let best = report.tried.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert_eq!((report.alpha, report.output_error), *best, "{text}");
            assert!(report.output_error < 0.9, "{text}: {report:?}");
            let Block { up, gate, down } = &student.blocks[block];
            for (layer, bias, report) in
                [(up, true, 0), (gate, false, 1), (down, true, 2)].map(|(l, b, at)| (l, b, &reports[block].layers[at]))
            {
                assert_eq!(layer.bias().is_some(), bias);
                assert_eq!(layer.cost().params, report.params);
                assert_eq!(layer.structure().unwrap().name(), text.split(':').next().unwrap());
            }
        }
    }
}

#[test]
fn full_rank_keeps_the_model() {
    let toy = Toy::new(2, 4);
    let (student, reports) = compressed(&toy, "low-rank:r=12", &config(&[0.5]));
    assert!(reports.iter().all(|report| report.output_error < 1e-4), "{reports:?}");
    let batch = &batches(1, 20)[0];
    let error: f32 = (student.output_of(batch) - toy.output_of(batch)).abs().max().into_scalar();
    assert!(error < 1e-3, "{error}");
}

#[test]
fn layers_without_a_structure_are_kept() {
    let toy = Toy::new(1, 4);
    let mut student = toy.clone();
    let prefix = Prefix::new(&toy, &batches(4, 10), &batches(2, 11)).unwrap();
    let structures = [None, None, Some("low-rank:r=3".parse().unwrap())];
    let report = prefix
        .compress_block(&mut student, 0, &structures, &config(&[0.0]), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(report.layers.len(), 1);
    assert_eq!(parameters(&student.blocks[0])[..100], parameters(&toy.blocks[0])[..100]);
}

#[test]
fn correction_lowers_the_error_behind_a_compressed_prefix() {
    let toy = Toy::new(3, 5);
    let last = |alpha: f64| compressed(&toy, "low-rank:r=4", &config(&[alpha])).1[2].output_error;
    let (layerwise, anchored) = (last(0.0), last(1.0));
    assert!(anchored < layerwise, "{anchored} against {layerwise}");
}

#[test]
fn compress_block_repeats_bit_for_bit() {
    let toy = Toy::new(2, 6);
    let [first, second] = [(); 2].map(|()| compressed(&toy, "blast:b=2,ratio=0.5", &config(&[0.0, 0.5])).0);
    for (a, b) in first.blocks.iter().zip(&second.blocks) {
        assert_eq!(parameters(a), parameters(b));
    }
}

#[test]
fn invalid_calls_say_what_to_do() {
    let toy = Toy::new(2, 7);
    let mut student = toy.clone();
    assert!(matches!(Prefix::new(&toy, &[], &batches(1, 1)), Err(CompressError::NoBatches)));
    let mut prefix = Prefix::new(&toy, &batches(2, 10), &batches(1, 11)).unwrap();
    let mut fails =
        |index: usize, structures: &[Option<Structure>], config: SequentialConfig, flow: ControlFlow<()>| {
            prefix.compress_block(&mut student, index, structures, &config, &mut |_| flow).unwrap_err().to_string()
        };
    let go = ControlFlow::Continue(());
    let low_rank = structures("low-rank:r=3");
    assert!(fails(1, &low_rank, config(&[0.0]), go).contains("front of block 0"));
    assert!(fails(0, &low_rank[..2], config(&[0.0]), go).contains("2 structures for the 3"));
    assert!(fails(0, &low_rank, config(&[]), go).contains("alphas"));
    assert!(fails(0, &low_rank, config(&[1.5]), go).contains("alpha is 1.5"));
    assert!(fails(0, &low_rank, config(&[0.0]).with_regularization(-1.0), go).contains("regularization"));
    assert!(fails(0, &structures("low-rank:r=99"), config(&[0.0]), go).starts_with("layer blocks.0.up: "));
    assert_eq!(fails(0, &low_rank, config(&[0.0]), ControlFlow::Break(())), "interrupted");
    assert!(prefix.advance(&toy, 1).is_err());
    prefix.advance(&toy, 0).unwrap();
    prefix.advance(&toy, 1).unwrap();
    assert!(prefix.advance(&toy, 2).unwrap_err().to_string().contains("block 2 of 2"));
}

/// A decoder of which all blocks are compressed and refined, with the errors of the last block's output before and after.
fn refined(decoder: &Decoder, alpha: f64, steps: usize) -> (Decoder, [f64; 2]) {
    let go = ControlFlow::Continue(());
    let mut student = decoder.clone();
    let mut prefix = Prefix::new(decoder, &batches(16, 10), &batches(6, 11)).unwrap();
    let structures = [Some("low-rank:ratio=0.45".parse().unwrap()); 4];
    let mut errors = [0.0; 2];
    for block in 0..decoder.blocks.len() {
        let report = prefix.compress_block(&mut student, block, &structures, &config(&[alpha]), &mut |_| go).unwrap();
        errors = [report.output_error; 2];
        if steps > 0 {
            let config = RefineConfig::new().with_budget(Budget::Steps(steps)).with_learning_rate(1e-3);
            let report = refine_block(&prefix, &mut student, block, &config, &mut |_| go).unwrap();
            assert_eq!(report.before, errors[0]);
            errors[1] = report.after;
        }
        prefix.advance(&student, block).unwrap();
    }
    (student, errors)
}

#[test]
fn decoders_are_compressed_and_refined() {
    for bias in [true, false] {
        let decoder = Decoder::new(3, bias, 8);
        let [layerwise, anchored] = [0.0, 1.0].map(|alpha| refined(&decoder, alpha, 0).1[0]);
        assert!(anchored < layerwise, "bias {bias}: {anchored} against {layerwise}");
        let (student, [before, after]) = refined(&decoder, 1.0, 200);
        assert!(after < before && after < anchored, "bias {bias}: {before}, {after}, {anchored}");
        for (name, layer) in (0..3).flat_map(|block| student.linears(block)) {
            assert_eq!((layer.bias().is_some(), layer.structure().unwrap().name()), (bias, "low-rank"), "{name}");
        }
    }
}

#[test]
fn full_correction_keeps_the_mean_of_the_residual_stream() {
    let decoder = Decoder::new(3, true, 9);
    let (student, _) = refined(&decoder, 1.0, 0);
    let mean = |model: &Decoder| {
        let run = |batch: &Tensor<3>| {
            let features =
                model.blocks.iter().fold(model.embed(batch), |x, block| Decoder::forward_block(block, x, batch));
            model.output(features, batch)
        };
        Tensor::cat(batches(16, 10).iter().map(run).collect(), 0).mean_dim(0)
    };
    // Means of large offsets and of what is lacking, behind three blocks: the biases take up all of it.
    let (found, expected) = (mean(&student), mean(&decoder));
    let error: f64 = (found - expected.clone()).abs().max().into_scalar();
    let size: f64 = expected.abs().max().into_scalar();
    assert!(error < 1e-4 * size, "{error} of {size}");
    let rest: f64 = (student.blocks[2].fc2.to_dense() - decoder.blocks[2].fc2.to_dense()).abs().max().into_scalar();
    assert!(rest > 0.1, "there is something to correct: {rest}");
}
