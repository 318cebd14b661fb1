//! Loss and perplexity of a model on a text.

use super::loss::negative_log_likelihood;
use crate::data::tokens::{EvaluationWindows, TokenSource};
use crate::training::TrainingError;
use burn_structured_models::decoder::Decoder;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood of a token, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Scored tokens a second, reading them included.
    pub tokens_per_second: f64,
}

/// Scores every token of `tokens` but the first, by a window of `context` tokens that moves on by `stride`.
///
/// Every token is scored once, by the window in which it is new; from the second window on it thus has at least
/// `context - stride` tokens before it. A `stride` of the whole context is the fastest, a shorter one gives lower perplexities.
/// `batch_size` windows are computed together.
///
/// # Errors
///
/// If the context is longer than the model's, the stride is 0 or above the context, there are fewer than two tokens, or one of
/// them is not in the model's vocabulary.
pub fn perplexity<M: Decoder>(
    model: &M,
    tokens: &TokenSource,
    context: usize,
    stride: usize,
    batch_size: usize,
) -> Result<Evaluation, TrainingError> {
    if context > model.context() {
        let expected = "give at most the context of the model";
        return Err(TrainingError::Recipe { name: "context", value: context.to_string(), expected });
    }
    let model = model.valid();
    let device = model.device();
    let windows = EvaluationWindows::new(tokens.clone(), model.vocab_size(), context, stride, batch_size)?;
    let began = Instant::now();
    let mut sum = 0.0;
    for batch in windows.batches(&device) {
        let batch = batch?;
        let [_, length] = batch.inputs.dims();
        let [_, scored] = batch.targets.dims();
        let features = model.features(batch.inputs).narrow(1, length - scored, scored);
        sum += negative_log_likelihood(model.logits(features), batch.targets).sum().into_scalar::<f64>();
    }
    let (scored, elapsed) = (windows.scored(), began.elapsed().max(Duration::from_nanos(1)));
    let loss = sum / scored as f64;
    let tokens_per_second = scored as f64 / elapsed.as_secs_f64();
    Ok(Evaluation { loss, perplexity: loss.exp(), tokens: scored, tokens_per_second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::{Device, Tensor};
    use burn_structured_models::gpt2::{Gpt2, Gpt2Config};

    fn model() -> Gpt2 {
        Gpt2Config::new(20).with_context(8).with_d_model(8).with_depth(1).with_heads(2).init(&Device::flex())
    }

    fn tokens(count: u32) -> TokenSource {
        TokenSource::memory((0..count).map(|token| token * token % 20).collect())
    }

    #[test]
    fn model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() {
        struct Zeros;
        impl ModuleMapper for Zeros {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| tensor.zeros_like())
            }
        }
        for (count, stride) in [(2, 8), (9, 8), (30, 8), (30, 3)] {
            let evaluation = perplexity(&model().map(&mut Zeros), &tokens(count), 8, stride, 2).unwrap();
            assert!((evaluation.perplexity - 20.0).abs() < 1e-3, "{evaluation:?}");
            assert_eq!(evaluation.tokens, count as usize - 1);
        }
    }

    #[test]
    fn every_token_is_scored_after_the_tokens_of_its_window() {
        // One token at a time, as windows of a stride of 1 see it: at most 8 tokens before each.
        let model = model();
        let source = tokens(15);
        let all = source.read(0..15, 20).unwrap();
        let mut sum = 0.0;
        for target in 1..15_usize {
            let window = &all[target.saturating_sub(8)..target];
            let inputs: Vec<i32> = window.iter().map(|token| *token as i32).collect();
            let inputs = Tensor::<1, burn::tensor::Int>::from_data(inputs.as_slice(), &Device::flex()).unsqueeze();
            let logits = model.forward(inputs).narrow(1, window.len() - 1, 1);
            let target = Tensor::from_data([[all[target] as i32]], &Device::flex());
            sum += negative_log_likelihood(logits, target).into_scalar::<f64>();
        }
        for batch_size in [1, 4] {
            let loss = perplexity(&model, &source, 8, 1, batch_size).unwrap().loss;
            assert!((loss - sum / 14.0).abs() < 1e-5, "{loss} instead of {}", sum / 14.0);
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_errors() {
        let error = |tokens: TokenSource, context, stride| {
            perplexity(&model(), &tokens, context, stride, 1).unwrap_err().to_string()
        };
        assert!(error(tokens(30), 9, 9).starts_with("context = 9"));
        assert!(error(tokens(30), 8, 0).contains("stride = 0"));
        assert!(error(tokens(30), 8, 9).contains("stride = 9"));
        assert!(error(tokens(1), 8, 8).contains("1"));
        assert!(error(TokenSource::named("the text", vec![3, 20, 3]), 2, 2).contains("the text"));
    }
}
