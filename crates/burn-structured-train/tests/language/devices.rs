//! Several devices, parts, precisions and gradient checkpointing: other ways to the same losses.

use crate::*;
use burn_structured_train::language::{Precision, train_language};

fn losses_of(settings: &LanguageSettings, devices: usize) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path()).with_devices(vec![Device::flex(); devices]);
    train_language(settings, &data(), &launch).unwrap().unwrap();
    losses(folder.path())
}

fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (step, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs() / expected;
        assert!(error < tolerance, "step {}: {actual} instead of {expected}", step + 1);
    }
}

#[test]
fn two_devices_have_the_losses_of_one() {
    let _alone = alone();
    let settings = settings(model("attention=blast:b=2,r=4"), recipe());
    let one = losses_of(&settings, 1);
    assert!(one[19] < one[0] - 1.0, "{one:?}");
    assert_close(&losses_of(&settings, 2), &one, 1e-4);
    assert_close(&losses_of(&settings, 4), &one, 1e-4);
}

#[test]
fn parts_have_the_losses_of_a_whole_batch() {
    let _alone = alone();
    let with = |accumulation| settings(model("dense"), LanguageRecipe { accumulation, ..recipe() });
    let whole = losses_of(&with(1), 1);
    assert_close(&losses_of(&with(2), 1), &whole, 1e-4);
    assert_close(&losses_of(&with(4), 1), &whole, 1e-4);
    assert_close(&losses_of(&with(2), 2), &whole, 1e-4);
}

#[test]
fn gradient_checkpointing_has_the_same_losses() {
    let _alone = alone();
    let with = |gradient_checkpointing| {
        settings(
            model("attention=blast:b=2,r=4;mlp=monarch:b=4"),
            LanguageRecipe { gradient_checkpointing, ..recipe() },
        )
    };
    assert_close(&losses_of(&with(true), 1), &losses_of(&with(false), 1), 1e-4);
}

#[test]
fn bf16_follows_the_losses_of_f32() {
    let _alone = alone();
    let with = |precision| settings(model("dense"), LanguageRecipe { precision, ..recipe() });
    let (half, full) = (losses_of(&with(Precision::Bf16), 1), losses_of(&with(Precision::F32), 1));
    assert_close(&half, &full, 0.02);
    assert_ne!(half, full);
}
