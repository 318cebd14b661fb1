//! Generation with tiny random models.

use super::*;
use crate::gpt2::{Gpt2, Gpt2Config};
use crate::text::Tokenizer;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::ops::ControlFlow;

const VOCAB: usize = 40;
const CONTEXT: usize = 12;

fn model(vocab_size: usize) -> Gpt2 {
    let device = Device::flex();
    device.seed(5);
    Gpt2Config::new(vocab_size).with_context(CONTEXT).with_d_model(16).with_depth(2).with_heads(2).init(&device)
}

fn greedy(tokens: usize) -> GenerationConfig {
    GenerationConfig::new().with_tokens(tokens).with_sampling(SamplingConfig::new().with_temperature(0.0))
}

fn generate(model: &Gpt2, prompts: &[Vec<u32>], config: &GenerationConfig) -> TokenGeneration {
    generate_tokens(model, prompts, config, |_, _| Ok(ControlFlow::Continue(()))).unwrap()
}

fn error(prompts: &[Vec<u32>], config: &GenerationConfig) -> String {
    generate_tokens(&model(VOCAB), prompts, config, |_, _| Ok(ControlFlow::Continue(()))).unwrap_err().to_string()
}

/// The likeliest token after `text`, by the whole forward pass.
fn next(model: &Gpt2, text: &[u32]) -> u32 {
    let ids: Vec<i32> = text.iter().map(|token| *token as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, text.len()]), &model.device());
    let logits = model.forward(ids).narrow(1, text.len() - 1, 1);
    logits.argmax(2).into_data().iter::<u32>().next().unwrap()
}

#[test]
fn cached_generation_equals_the_full_forward() {
    let model = model(VOCAB);
    let prompt = vec![3, 1, 4, 1, 5];
    for chunk in [1, 2, 5, 512] {
        let found = generate(&model, std::slice::from_ref(&prompt), &greedy(7).with_prefill_chunk(chunk));
        let mut text = prompt.clone();
        for token in &found.tokens[0] {
            assert_eq!(*token, next(&model, &text), "chunks of {chunk}, after {text:?}");
            text.push(*token);
        }
        assert_eq!(text.len(), CONTEXT);
    }
}

#[test]
fn rows_of_a_batch_are_as_alone() {
    let model = model(VOCAB);
    let prompts = [vec![7], vec![1, 2, 3, 4, 5, 6], vec![9, 8, 7]];
    let sampling = |seed| SamplingConfig::new().with_seed(seed).with_top_k(Some(20)).with_repetition_penalty(1.5);
    let config = |seed| GenerationConfig::new().with_tokens(6).with_sampling(sampling(seed)).with_prefill_chunk(4);
    let together = generate(&model, &prompts, &config(100)).tokens;
    for (row, prompt) in prompts.iter().enumerate() {
        let alone = generate(&model, std::slice::from_ref(prompt), &config(100 + row as u64)).tokens;
        assert_eq!(together[row], alone[0], "row {row}");
    }
}

#[test]
fn sliding_starts_again_with_half_the_context() {
    let model = model(VOCAB);
    let config = greedy(30).with_overflow(Overflow::Slide);
    let mut text = vec![2, 7, 1];
    let found = generate(&model, &[text.clone()], &config).tokens.remove(0);
    assert_eq!(found.len(), 30);
    let mut start = 0;
    for token in found {
        if text.len() - start > CONTEXT {
            start = text.len() - CONTEXT / 2;
        }
        assert_eq!(token, next(&model, &text[start..]), "after {} tokens", text.len());
        text.push(token);
    }
    assert!(start > CONTEXT, "the window moved more than once");
}

#[test]
fn prompt_longer_than_the_context_slides() {
    let model = model(VOCAB);
    let prompt: Vec<u32> = (0..20).collect();
    let config = greedy(1).with_overflow(Overflow::Slide);
    let found = generate(&model, &[prompt.clone(), vec![3]], &config);
    assert_eq!(found.tokens, [vec![next(&model, &prompt[20 - CONTEXT / 2..])], vec![next(&model, &[3])]]);
    assert_eq!(found.prefill.tokens, CONTEXT / 2 + 1);
}

#[test]
fn callback_ends_its_row_only() {
    let model = model(VOCAB);
    let mut seen = [0, 0];
    let found = generate_tokens(&model, &[vec![1], vec![2]], &greedy(6), |row, _| {
        seen[row] += 1;
        Ok(if row == 0 && seen[0] == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .unwrap();
    assert_eq!(seen, [2, 6]);
    assert_eq!([found.tokens[0].len(), found.tokens[1].len()], [2, 6]);
    let undisturbed = generate(&model, &[vec![2]], &greedy(6));
    assert_eq!(found.tokens[1], undisturbed.tokens[0]);
}

#[test]
fn speeds_count_prompt_and_new_tokens() {
    let found = generate(&model(VOCAB), &[vec![1, 2, 3], vec![4]], &greedy(5));
    // The first new token of each row comes from the prompt.
    assert_eq!([found.prefill.tokens, found.decode.tokens], [4, 8]);
    assert!(found.prefill.seconds > 0.0 && found.decode.tokens_per_second() > 0.0);
    assert_eq!(Speed::default().tokens_per_second(), 0.0);
}

#[test]
fn errors_name_the_prompt_and_the_way_out() {
    let config = GenerationConfig::new().with_tokens(5);
    assert_eq!(error(&[], &config), "there is no prompt to continue; give at least one");
    assert_eq!(error(&[vec![1], vec![]], &config), "prompt 1 is empty; give at least one character");
    assert_eq!(
        error(&[vec![1], vec![0; 9]], &config),
        "prompt 1 of 9 tokens and 5 new ones are more than the model's context of 12; generate at most 3, shorten the \
         prompt, or let the context slide"
    );
    assert_eq!(
        error(&[vec![0; 12]], &config),
        "prompt 0 of 12 tokens and 5 new ones are more than the model's context of 12; shorten the prompt, or let the \
         context slide"
    );
    assert!(error(&[vec![1, 40]], &config).starts_with("prompt 0 holds the token 40, but the model has only 40"));
    assert_eq!(error(&[vec![1]], &config.clone().with_tokens(0)), "new tokens = 0 cannot be used; give at least 1");
    assert!(error(&[vec![1]], &config.clone().with_prefill_chunk(0)).starts_with("prefill chunk = 0 "));
    assert!(error(&[vec![1]], &config.with_stop(vec![String::new()])).starts_with("stop string = \"\" "));
}

#[test]
fn text_is_streamed_as_it_is_returned() {
    let (model, tokenizer) = (model(256), Tokenizer::bytes());
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let mut streamed = [String::new(), String::new()];
    let sampling = SamplingConfig::new().with_seed(3);
    let config = GenerationConfig::new().with_tokens(9).with_sampling(sampling);
    let found = generator.generate(&["a", "é"], &config, |row, text| streamed[row] += text).unwrap();
    for (continuation, streamed) in found.continuations.iter().zip(&streamed) {
        assert_eq!(&continuation.text, streamed);
        assert_eq!((continuation.tokens, continuation.finish), (9, FinishReason::Length));
    }
}

#[test]
fn stop_string_ends_the_text_before_it() {
    let tokenizer = Tokenizer::characters_of("abcd");
    let model = model(tokenizer.vocab_size());
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let sampling = SamplingConfig::new().with_seed(1);
    let config = GenerationConfig::new().with_tokens(11).with_sampling(sampling);
    let whole = generator.generate(&["a"], &config, |_, _| {}).unwrap().continuations[0].text.clone();
    assert_eq!(whole.len(), 11);
    let stop = &whole[5..7];
    let at = whole.find(stop).unwrap();
    let config = config.with_stop(vec![stop.to_string()]);
    let found = &generator.generate(&["a"], &config, |_, _| {}).unwrap().continuations[0];
    assert_eq!(found.text, whole[..at]);
    assert_eq!((found.tokens, found.finish), (at + 2, FinishReason::StopString));
}

#[test]
fn tokens_beyond_the_tokenizer_are_never_drawn() {
    let tokenizer = Tokenizer::characters_of("ab");
    let model = model(VOCAB);
    let config = GenerationConfig::new().with_tokens(11);
    let found = Generator::new(&model, &tokenizer).unwrap().generate(&["a"], &config, |_, _| {}).unwrap();
    assert!(found.continuations[0].text.chars().all(|c| "ab".contains(c)), "{found:?}");
}

#[test]
fn tokenizer_larger_than_the_model_is_an_error() {
    let message = Generator::new(&model(VOCAB), &Tokenizer::bytes()).unwrap_err().to_string();
    assert!(message.contains("has 256 tokens, but the model only 40"), "{message}");
}

#[test]
fn empty_prompt_without_end_of_text_is_an_error() {
    let (model, tokenizer) = (model(256), Tokenizer::bytes());
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let message = generator.generate(&[""], &greedy(1), |_, _| {}).unwrap_err().to_string();
    assert_eq!(message, "prompt 0 is empty; give at least one character");
}

#[test]
fn given_tokens_end_a_text() {
    let (model, tokenizer) = (model(256), Tokenizer::bytes());
    let generate = |config: &GenerationConfig| {
        let generator = Generator::new(&model, &tokenizer).unwrap();
        generator.generate(&["a"], config, |_, _| {}).unwrap().continuations.remove(0)
    };
    assert_eq!(generate(&greedy(4)).finish, FinishReason::Length);
    let first = next(&model, &[u32::from(b'a')]);
    let found = generate(&greedy(4).with_end_tokens(vec![300, first]));
    assert_eq!((found.text.as_str(), found.tokens, found.finish), ("", 1, FinishReason::EndOfText));
}

#[cfg(feature = "tokenizers")]
#[test]
fn end_of_text_starts_and_ends_a_text() {
    let tokenizer = Tokenizer::gpt2();
    let end = tokenizer.end_of_text().unwrap();
    let mut model = model(tokenizer.vocab_size());
    let generate = |model: &Gpt2| {
        Generator::new(model, &tokenizer)
            .unwrap()
            .generate(&[""], &greedy(3), |_, _| {})
            .unwrap()
            .continuations
            .remove(0)
    };
    let found = generate(&model);
    assert_eq!((found.tokens, found.finish), (3, FinishReason::Length));
    // The same features for every token, and the largest logit for the one that ends a text.
    let [_, features] = model.tokens.weight.dims();
    model.norm.gamma = model.norm.gamma.map(|gamma| gamma * 0.0);
    model.norm.beta = model.norm.beta.map(|beta| beta.map(|beta| beta + 1.0));
    model.tokens.weight = model.tokens.weight.map(|weight| {
        let row = Tensor::<2>::ones([1, features], &weight.device());
        weight.slice_assign([end as usize..end as usize + 1, 0..features], row)
    });
    let found = generate(&model);
    assert_eq!((found.text.as_str(), found.tokens, found.finish), ("", 1, FinishReason::EndOfText));
}
