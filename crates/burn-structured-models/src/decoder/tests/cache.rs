//! The cache gives what the full forward gives.

use super::{Decoder, Settings, Tested, for_every_decoder, random};
use crate::decoder::testing::random_tokens;
use crate::decoder::{DecoderError, KvCache};
use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};

for_every_decoder! {
    one_token_at_a_time_equals_the_full_forward,
    any_chunks_equal_the_full_forward,
    forward_cached_gives_the_last_logits,
    padded_rows_equal_rows_of_their_own,
    padding_does_not_count_as_context,
    cloned_cache_goes_its_own_way,
    structured_layers_and_head_work_with_the_cache,
    what_does_not_fit_is_an_error_and_changes_nothing,
    #[should_panic(expected = "KvCache: made for a model of 2 blocks, used with one of 3")]
    cache_of_another_model_panics,
}

/// Longer than the buffers' first size, so that they grow.
fn long() -> Settings {
    Settings { context: 150, ..Settings::default() }
}

fn assert_close(found: Tensor<3>, expected: Tensor<3>) {
    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(2e-4));
}

/// Logits of all tokens, given to the model in chunks of these sizes.
fn in_chunks<M: Tested>(model: &M, tokens: &Tensor<2, Int>, chunks: &[usize], cache: &mut KvCache) -> Tensor<3> {
    let mut start = 0;
    let features = chunks.iter().map(|chunk| {
        start += chunk;
        model.features_cached(tokens.clone().narrow(1, start - chunk, *chunk), cache).unwrap()
    });
    Decoder::logits(model, Tensor::cat(features.collect(), 1))
}

fn one_token_at_a_time_equals_the_full_forward<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&long(), &device);
    let tokens = random_tokens(2, 140, 17, &device);
    let mut cache = model.cache(140);
    assert_close(in_chunks(&model, &tokens, &[1; 140], &mut cache), model.forward(tokens));
    assert_eq!((cache.len(), cache.capacity()), (140, 140));
}

fn any_chunks_equal_the_full_forward<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&long(), &device);
    let tokens = random_tokens(2, 75, 17, &device);
    let expected = model.forward(tokens.clone());
    for chunks in [vec![75], vec![64, 1, 10], vec![5, 1, 60, 1, 7, 1], vec![1, 74], vec![37, 38]] {
        for capacity in [75, 100, 150] {
            let found = in_chunks(&model, &tokens, &chunks, &mut model.cache(capacity));
            assert_close(found, expected.clone());
        }
    }
}

fn forward_cached_gives_the_last_logits<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&Settings::default(), &device);
    let tokens = random_tokens(3, 9, 17, &device);
    let expected = model.forward(tokens.clone());
    let mut cache = model.cache(12);
    let prompt = model.forward_cached(tokens.clone().narrow(1, 0, 6), &mut cache).unwrap();
    assert_close(prompt, expected.clone().narrow(1, 5, 1));
    for position in 6..9 {
        let next = model.forward_cached(tokens.clone().narrow(1, position, 1), &mut cache).unwrap();
        assert_close(next, expected.clone().narrow(1, position, 1));
    }
}

fn padded_rows_equal_rows_of_their_own<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&long(), &device);
    // Rows of 70, 66, 8 and 3 tokens; in chunks of 50 the first holds nothing but padding for two of them.
    let padding = vec![0, 4, 62, 67];
    let length = 70;
    let tokens = random_tokens(4, length, 17, &device);
    for chunks in [vec![70], vec![50, 20], vec![50, 14, 1, 1, 1, 1, 1, 1]] {
        let mut cache = model.cache(150).with_padding(padding.clone());
        let found = in_chunks(&model, &tokens, &chunks, &mut cache);
        for (row, padding) in padding.iter().enumerate() {
            let unpadded = tokens.clone().narrow(0, row, 1).narrow(1, *padding, length - padding);
            let found = found.clone().narrow(0, row, 1).narrow(1, *padding, length - padding);
            assert_close(found, model.forward(unpadded));
        }
    }
}

fn padding_does_not_count_as_context<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&Settings::default(), &device);
    let tokens = random_tokens(1, 15, 17, &device);
    let mut cache = model.cache(20).with_padding(vec![3]);
    let found = model.forward_cached(tokens.clone(), &mut cache).unwrap();
    assert_close(found, model.forward(tokens.clone().narrow(1, 3, 12)).narrow(1, 11, 1));
    let error = model.forward_cached(tokens.narrow(1, 0, 1), &mut cache).unwrap_err();
    assert!(matches!(error, DecoderError::Context { tokens: 13, context: 12 }), "{error}");
}

fn cloned_cache_goes_its_own_way<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&Settings::default(), &device);
    let tokens = random_tokens(1, 8, 17, &device);
    let token = |id: i32| Tensor::<2, Int>::from_data(TensorData::new(vec![id], [1, 1]), &device);
    let mut cache = model.cache(12);
    model.features_cached(tokens.clone(), &mut cache).unwrap();
    let mut other = cache.clone();
    model.forward_cached(token(3), &mut cache).unwrap();
    model.forward_cached(token(4), &mut other).unwrap();
    for (cache, third) in [(&mut cache, 3), (&mut other, 4)] {
        let found = model.forward_cached(token(5), cache).unwrap();
        let sequence = Tensor::cat(vec![tokens.clone(), token(third), token(5)], 1);
        assert_close(found, model.forward(sequence).narrow(1, 9, 1));
    }
}

fn structured_layers_and_head_work_with_the_cache<M: Tested>() {
    let device = Device::flex();
    let settings = Settings::structures("first=monarch:b=2,r=2;blast:b=2,r=6");
    for settings in [settings.clone(), settings.with_head("low-rank:r=5")] {
        let model = random::<M>(&settings, &device);
        let tokens = random_tokens(2, 10, 17, &device);
        let found = in_chunks(&model, &tokens, &[4, 1, 1, 3, 1], &mut model.cache(10));
        assert_close(found, model.forward(tokens));
    }
}

fn what_does_not_fit_is_an_error_and_changes_nothing<M: Tested>() {
    let device = Device::flex();
    let model = random::<M>(&Settings::default(), &device);
    let tokens = random_tokens(2, 12, 17, &device);
    let mut cache = model.cache(8);
    let mut message = |rows: usize, length: usize| {
        let tokens = tokens.clone().narrow(0, 0, rows).narrow(1, 0, length);
        model.forward_cached(tokens, &mut cache).map(|_| ()).map_err(|error| error.to_string())
    };
    let no_room = "5 new tokens do not fit a cache of 8 slots, of which 4 are used; create a larger cache";
    let other_batch = "a batch of 1 rows does not fit a cache of 2; use a new cache for every batch";
    let too_long = "a sequence of 16 tokens is longer than the model's context of 12; shorten it";
    message(2, 4).unwrap();
    assert_eq!(message(2, 5).unwrap_err(), no_room);
    assert_eq!(message(1, 2).unwrap_err(), other_batch);
    assert_eq!(message(2, 12).unwrap_err(), too_long);
    message(2, 4).unwrap();

    let nothing = Tensor::<2, Int>::zeros([2, 0], &device);
    let error = model.forward_cached(nothing, &mut model.cache(4)).unwrap_err();
    assert_eq!(error.to_string(), "there are no tokens; give at least one for each row of the batch");
    let mut padded = model.cache(8).with_padding(vec![1, 0, 0]);
    let error = model.forward_cached(tokens.narrow(1, 0, 4), &mut padded).unwrap_err();
    assert_eq!(error.to_string(), "a batch of 2 rows does not fit a cache of 3; use a new cache for every batch");
    assert!(padded.is_empty());
}

fn cache_of_another_model_panics<M: Tested>() {
    let device = Device::flex();
    let cache = &mut M::init(&Settings::default(), &device).cache(4);
    let deeper = M::init(&Settings { depth: 3, ..Settings::default() }, &device);
    let _ = deeper.forward_cached(random_tokens(1, 2, 17, &device), cache);
}
