//! The forward pass.

use super::{Settings, Tested, for_every_decoder, random};
use crate::decoder::testing::random_tokens;
use crate::testing::every_structure;
use burn::tensor::{Device, Int, Tensor, Tolerance};

for_every_decoder! {
    every_structure_gives_finite_logits,
    later_token_changes_no_earlier_logits,
    rows_of_a_batch_do_not_mix,
    token_depends_on_its_position,
    tied_head_is_the_token_embedding,
    training_reaches_every_parameter,
    #[should_panic(expected = "a sequence of 13 tokens is longer than the model's context of 12; shorten it")]
    more_tokens_than_the_context_panic,
}

fn every_structure_gives_finite_logits<M: Tested>() {
    let device = Device::flex();
    for structure in every_structure() {
        let logits = M::init(&Settings { structures: structure.into(), ..Settings::default() }, &device)
            .forward(random_tokens(3, 5, 17, &device));
        assert_eq!(logits.dims(), [3, 5, 17]);
        assert!(logits.into_data().iter::<f32>().all(f32::is_finite), "{structure}");
    }
}

fn later_token_changes_no_earlier_logits<M: Tested>() {
    let device = Device::flex();
    let model: M = random(&Settings::default(), &device);
    let tokens = random_tokens(2, 8, 17, &device);
    let changed = tokens.clone().slice_fill([0..2, 6..7], 3).slice_fill([0..1, 6..7], 4);
    let (before, after) = (model.forward(tokens), model.forward(changed));
    let earlier = |logits: &Tensor<3>| logits.clone().narrow(1, 0, 6).into_data();
    earlier(&before).assert_eq(&earlier(&after), true);
    let difference = (before - after).abs().narrow(1, 6, 2).min().into_scalar::<f32>();
    assert!(difference > 0.0, "the changed token and the one after it have other logits");
}

fn rows_of_a_batch_do_not_mix<M: Tested>() {
    let device = Device::flex();
    let model: M = random(&Settings::default(), &device);
    let tokens = random_tokens(3, 7, 17, &device);
    let together = model.forward(tokens.clone()).narrow(0, 1, 1).into_data();
    let alone = model.forward(tokens.narrow(0, 1, 1)).into_data();
    together.assert_approx_eq::<f32>(&alone, Tolerance::absolute(1e-5));
}

fn token_depends_on_its_position<M: Tested>() {
    let device = Device::flex();
    let model: M = random(&Settings::default(), &device);
    let features = model.features(Tensor::<2, Int>::from_data([[5, 3, 5], [3, 5, 5]], &device));
    // The same tokens before, in another order.
    let last = features.narrow(1, 2, 1);
    let [first, second] = [0, 1].map(|row| last.clone().narrow(0, row, 1));
    assert!((first - second).abs().max().into_scalar::<f32>() > 0.01);
}

fn tied_head_is_the_token_embedding<M: Tested>() {
    let device = Device::flex();
    let model: M = random(&Settings::default(), &device);
    let features = model.features(random_tokens(2, 3, 17, &device));
    let expected = features.clone().matmul(model.embedding().transpose().unsqueeze()).into_data();
    super::Decoder::logits(&model, features).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
}

fn training_reaches_every_parameter<M: Tested>() {
    let device = Device::flex().autodiff();
    for settings in [Settings::default(), Settings::default().with_head("dense")] {
        let model = M::init(&settings, &device);
        // All positions: one that is not in the batch learns nothing.
        let gradients = model.forward(random_tokens(2, 12, 17, &device)).square().sum().backward();
        let gradients = burn::optim::GradientsParams::from_grads(gradients, &model);
        assert_eq!(gradients.len(), crate::testing::parameters(&model).len(), "{settings:?}");
    }
}

fn more_tokens_than_the_context_panic<M: Tested>() {
    let device = Device::flex();
    M::init(&Settings::default(), &device).forward(random_tokens(1, 13, 17, &device));
}
