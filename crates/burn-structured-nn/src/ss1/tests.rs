use super::*;
use crate::Approximation;
use burn::tensor::{Distribution, Tolerance};

const INDEPENDENT: Ss1Hash = Ss1Hash::Independent { seed: 5, signs: true };

fn device() -> Device {
    let device = Device::flex();
    device.seed(7);
    device
}

fn config(hash: Ss1Hash) -> Ss1LinearConfig {
    Ss1LinearConfig::new(40, 12).with_reduction(2).with_block_k(8).with_block_n(4).with_hash(hash)
}

#[test]
fn a_representable_matrix_is_its_own_approximation() {
    let layer = config(INDEPENDENT).init(&device());
    let approximation = config(INDEPENDENT).from_dense(layer.to_dense(), None).unwrap();
    assert!(approximation.relative_error < 1e-6, "{}", approximation.relative_error);
    let weights = approximation.layer.z.val().into_data();
    weights.assert_approx_eq::<f32>(&layer.z.val().into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn the_error_of_an_approximation_is_what_it_says() {
    let weight = Tensor::<2>::random([12, 40], Distribution::Normal(0.0, 1.0), &device());
    let Approximation { layer, relative_error } = config(INDEPENDENT).from_dense(weight.clone(), None).unwrap();
    // Half of the weights are free: the mean of two leaves half of the variance of independent ones.
    assert!((0.5..0.9).contains(&relative_error), "{relative_error}");
    let difference = (layer.to_dense() - weight.clone()).powf_scalar(2.0).sum() / weight.powf_scalar(2.0).sum();
    assert!((difference.into_scalar::<f64>().sqrt() - relative_error).abs() < 1e-6);
}

#[test]
fn rotating_and_back_is_the_same_layer() {
    let config = config(Ss1Hash::Additive { constants: [3, 5, 7, 11], vec: 3 });
    let layer = config.init(&device());
    let again = config.from_rotated(layer.rotated(), None).unwrap();
    assert_eq!(again.z.val().into_data(), layer.z.val().into_data());
    assert_ne!(layer.rotated().transpose().into_data(), layer.z.val().into_data());
}

#[test]
fn loading_into_a_clone_leaves_the_original() {
    let device = device();
    let original = config(Ss1Hash::default()).init(&device);
    let before = original.to_dense().into_data();
    let record = config(INDEPENDENT).init(&device).into_record();
    let loaded = original.clone().load_record(record);
    original.to_dense().into_data().assert_eq(&before, true);
    assert_eq!(loaded.function().hash, INDEPENDENT);
}

#[test]
fn settings_above_the_dimensions_are_errors() {
    let device = device();
    let large = 1_000_000_000_000;
    let config = config(INDEPENDENT).with_reduction(1);
    for (config, name) in [
        (config.clone().with_block_k(large), "block_k"),
        (config.clone().with_block_k(41), "block_k"),
        // Saved in 32 bits, this was block_n = 4.
        (config.clone().with_block_n(1 << 32 | 4), "block_n"),
        (config.clone().with_block_n(65), "block_n"),
        (config.clone().with_reduction(large), "reduction"),
    ] {
        let error = config.try_init(&device).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert!(config.fold().is_err(), "{error}");
    }
    let wide = Ss1LinearConfig::new(1 << 33, 1).try_init(&device).unwrap_err().to_string();
    assert!(wide.contains("d_input = 8589934592 is above"), "{wide}");
}

#[test]
#[should_panic(expected = "Ss1Linear: the loaded `hash` [0, 0, 0")]
fn a_damaged_hash_is_named_at_first_use() {
    struct Zeros;
    impl burn::module::ModuleMapper for Zeros {
        fn map_int<const D: usize>(
            &mut self,
            param: Param<Tensor<D, burn::tensor::Int>>,
        ) -> Param<Tensor<D, burn::tensor::Int>> {
            let (id, zeros) = (param.id, param.val().zeros_like());
            param.transform_for_load(zeros, id)
        }
    }
    // Loading itself, which Burn expects to succeed, does not panic.
    let layer = config(INDEPENDENT).init(&device()).map(&mut Zeros);
    let _ = layer.forward(Tensor::<2>::zeros([1, 40], &device()));
}

#[test]
#[should_panic(expected = "describes no layer with weights [24, 12]")]
fn the_hash_of_another_layer_is_named_at_first_use() {
    let device = device();
    let other = Ss1LinearConfig::new(80, 12).with_reduction(2).with_block_k(8).init(&device);
    let layer = Ss1Linear { hash: other.hash, ..config(INDEPENDENT).init(&device) };
    let _ = layer.to_dense();
}

#[test]
fn constants_of_32_bits_do_not_overflow() {
    let config = config(Ss1Hash::Additive { constants: [u32::MAX; 4], vec: u32::MAX });
    let layer = config.init(&device());
    let again = config.from_rotated(layer.rotated(), None).unwrap();
    assert_eq!(again.z.val().into_data(), layer.z.val().into_data());
}

#[test]
fn a_saved_layer_brings_its_hash_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.bpk");
    let device = device();
    let saved = config(INDEPENDENT).init(&device);
    saved.clone().into_record().save(&path).unwrap();
    let loaded = config(Ss1Hash::default()).init(&device);
    let before = loaded.to_dense().into_data();
    let loaded = loaded.load_record(burn::store::ModuleRecord::load(&path).unwrap());
    assert_ne!(before, saved.to_dense().into_data());
    assert_eq!(loaded.to_dense().into_data(), saved.to_dense().into_data());
}

/// By elimination with full pivoting: the pivots of a random matrix of lower rank end at rounding.
fn rank(matrix: Tensor<2>) -> usize {
    let [rows, cols] = matrix.dims();
    let mut values: Vec<f64> = matrix.into_data().iter::<f64>().collect();
    let largest = |values: &[f64], step: usize| {
        let rest = (step..rows).flat_map(|row| (step..cols).map(move |col| (row, col)));
        rest.max_by(|a, b| values[a.0 * cols + a.1].abs().total_cmp(&values[b.0 * cols + b.1].abs()))
    };
    for step in 0..rows.min(cols) {
        let Some((row, col)) = largest(&values, step).filter(|(row, col)| values[row * cols + col].abs() > 1e-9) else {
            return step;
        };
        (0..cols).for_each(|j| values.swap(step * cols + j, row * cols + j));
        (0..rows).for_each(|i| values.swap(i * cols + step, i * cols + col));
        for i in step + 1..rows {
            let factor = values[i * cols + step] / values[step * cols + step];
            (step..cols).for_each(|j| values[i * cols + j] -= factor * values[step * cols + j]);
        }
    }
    rows.min(cols)
}

#[test]
fn only_independent_rotations_have_nearly_full_rank() {
    let device = device();
    let config = Ss1LinearConfig::new(128, 128).with_block_n(16);
    let ranks = |hash: Ss1Hash| {
        [2, 4, 8].map(|c| rank(config.clone().with_hash(hash).with_reduction(c).init(&device).to_dense()))
    };
    assert_eq!(ranks(Ss1Hash::default()), [64, 32, 16]);
    let independent = [false, true].map(|signs| ranks(Ss1Hash::Independent { seed: 0, signs }));
    // The draw is part of the function, the weights are not: but all random weights have the same rank.
    assert_eq!(independent, [[124, 121, 120], [128, 128, 128]]);
}

#[test]
fn settings_that_make_no_layer_are_named() {
    let device = device();
    let error = config(INDEPENDENT).with_reduction(6).try_init(&device).unwrap_err().to_string();
    assert!(error.contains("reduction 6") && error.contains("5 blocks"), "{error}");
    let error = config(INDEPENDENT).with_block_k(0).try_init(&device).unwrap_err().to_string();
    assert!(error.contains("block_k"), "{error}");
}

#[test]
fn cost_counts_stored_weights_and_sketches() {
    let layer = config(INDEPENDENT).init(&device());
    let cost = layer.cost();
    assert_eq!(cost.params, 24 * 12 + 12);
    assert_eq!(cost.flops_per_token, 2 * 24 * 12 + 12 + (40 - 24) * 3);
}

#[test]
fn display() {
    let layer = config(Ss1Hash::default()).init(&device());
    let display = format!("{layer}");
    assert!(display.starts_with("Ss1Linear {d_input: 40, d_output: 12, reduction: 2, hash: additive, bias: true"));
}
