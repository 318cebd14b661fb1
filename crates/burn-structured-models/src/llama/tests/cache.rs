//! The cache gives what the full forward gives.

use super::{random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::decoder::{Decoder, DecoderError, KvCache};
use crate::llama::{Llama, LlamaConfig};
use burn::tensor::{Device, Int, Tensor, Tolerance};

/// Longer than the cache's first size, so that it grows.
fn long() -> LlamaConfig {
    tiny().with_context(150)
}

fn assert_close(found: Tensor<3>, expected: Tensor<3>) {
    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(2e-4));
}

/// Logits of all tokens, given to the model in chunks of these sizes.
fn in_chunks(model: &Llama, tokens: &Tensor<2, Int>, chunks: &[usize], cache: &mut KvCache) -> Tensor<3> {
    let mut start = 0;
    let features = chunks.iter().map(|chunk| {
        start += chunk;
        model.features_cached(tokens.clone().narrow(1, start - chunk, *chunk), cache).unwrap()
    });
    model.logits(Tensor::cat(features.collect(), 1))
}

#[test]
fn every_prefix_equals_the_full_forward() {
    let device = Device::flex();
    for (kv_heads, d_head) in [(2, 0), (1, 6), (4, 0)] {
        let model = random_model(&long().with_kv_heads(kv_heads).with_d_head(d_head), &device);
        let tokens = random_tokens(2, 80, 17, &device);
        let expected = model.forward(tokens.clone());
        assert_close(in_chunks(&model, &tokens, &[1; 80], &mut model.cache(80)), expected.clone());
        let mut cache = model.cache(150);
        for (start, new) in [(0, 6), (6, 1), (7, 1), (8, 60), (68, 1)] {
            let found = model.forward_cached(tokens.clone().narrow(1, start, new), &mut cache).unwrap();
            assert_close(found, expected.clone().narrow(1, start + new - 1, 1));
        }
        assert_eq!((cache.len(), cache.capacity()), (69, 150));
    }
}

#[test]
fn padded_rows_equal_rows_of_their_own() {
    let device = Device::flex();
    let model = random_model(&long(), &device);
    // Rows of 70, 66, 8 and 3 tokens; in chunks of 50 the first holds nothing but padding for two of them.
    let padding = vec![0, 4, 62, 67];
    let length = 70;
    let tokens = random_tokens(4, length, 17, &device);
    for chunks in [vec![70], vec![50, 14, 1, 1, 1, 1, 1, 1]] {
        let mut cache = model.cache(150).with_padding(padding.clone());
        let found = in_chunks(&model, &tokens, &chunks, &mut cache);
        for (row, padding) in padding.iter().enumerate() {
            let unpadded = tokens.clone().narrow(0, row, 1).narrow(1, *padding, length - padding);
            let found = found.clone().narrow(0, row, 1).narrow(1, *padding, length - padding);
            assert_close(found, model.forward(unpadded));
        }
    }
}

#[test]
fn structured_layers_and_a_tied_head_work_with_the_cache() {
    let device = Device::flex();
    let config = tiny().with_structures("first=monarch:b=2,r=2;blast:b=2,r=6".parse().unwrap()).with_head(None);
    let model = random_model(&config, &device);
    let tokens = random_tokens(2, 10, 17, &device);
    let found = in_chunks(&model, &tokens, &[4, 1, 1, 3, 1], &mut model.cache(10));
    assert_close(found, model.forward(tokens));
}

#[test]
fn more_tokens_than_the_context_are_an_error() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let mut cache = model.cache(20);
    let error = model.forward_cached(random_tokens(1, 13, 17, &device), &mut cache).unwrap_err();
    assert!(matches!(error, DecoderError::Context { tokens: 13, context: 12 }), "{error}");
    assert!(cache.is_empty());
}
