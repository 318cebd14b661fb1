//! Generation with a tiny random model.

use super::{random_model, tiny};
use crate::decoder::generate::{GenerationConfig, Overflow, SamplingConfig, generate_tokens};
use crate::llama::Llama;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::ops::ControlFlow;

/// The likeliest token after `text`, by the whole forward pass.
fn next(model: &Llama, text: &[u32]) -> u32 {
    let ids: Vec<i32> = text.iter().map(|token| *token as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, text.len()]), &model.device());
    let logits = model.forward(ids).narrow(1, text.len() - 1, 1);
    logits.argmax(2).into_data().iter::<u32>().next().unwrap()
}

#[test]
fn generated_tokens_are_those_of_the_full_forward() {
    let model = random_model(&tiny(), &Device::flex());
    let prompts = [vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5]];
    let sampling = SamplingConfig::new().with_temperature(0.0);
    let config = GenerationConfig::new().with_tokens(20).with_sampling(sampling).with_overflow(Overflow::Slide);
    let found = generate_tokens(&model, &prompts, &config, |_, _| Ok(ControlFlow::Continue(()))).unwrap();
    for (prompt, new) in prompts.iter().zip(&found.tokens) {
        // The longest row outgrows the context of 12 first, and all start again with at most 6 tokens.
        let (mut text, mut start, mut longest) = (prompt.clone(), 0, 5);
        for token in new {
            if longest > 12 {
                start = text.len().saturating_sub(6);
                longest = 6;
            }
            assert_eq!(*token, next(&model, &text[start..]), "after {text:?}");
            text.push(*token);
            longest += 1;
        }
        assert_eq!(new.len(), 20);
    }
}
