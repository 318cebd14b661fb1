//! The loop over the KV cache, on tokens.

use super::{GenerateError, GenerationConfig, Sampler, Speed};
use crate::decoder::{Decoder, KvCache};
use burn::tensor::{Int, Tensor, TensorData};
use std::ops::ControlFlow;
use std::time::Instant;

/// New tokens of several prompts, and how fast they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenGeneration {
    /// The new tokens of every prompt.
    pub tokens: Vec<Vec<u32>>,
    /// The prompts' way through the model, up to the first new token of each.
    pub prefill: Speed,
    /// Every further new token, with what [sliding](super::Overflow::Slide) the context costs.
    pub decode: Speed,
}

/// Continues several prompts at once, without dropout and gradients.
///
/// `on_token` is called with the prompt's position and each new token as soon as it is drawn; [`ControlFlow::Break`] ends
/// that prompt's text. Rows that have ended are computed along until all have. The stop strings of `config` are text and not
/// looked at here.
///
/// # Errors
///
/// If a setting is out of range, a prompt is empty or does not fit into the context, a token is not in the vocabulary, a
/// logit is NaN or positive infinity, or `on_token` fails.
pub fn generate_tokens<M: Decoder>(
    model: &M,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    on_token: impl FnMut(usize, u32) -> Result<ControlFlow<()>, GenerateError>,
) -> Result<TokenGeneration, GenerateError> {
    generate_below(model.vocab_size(), model, prompts, config, on_token)
}

/// As [`generate_tokens`], with tokens below `vocab` only: a model may have more of them than its tokenizer, for round shapes.
pub(super) fn generate_below<M: Decoder>(
    vocab: usize,
    model: &M,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    mut on_token: impl FnMut(usize, u32) -> Result<ControlFlow<()>, GenerateError>,
) -> Result<TokenGeneration, GenerateError> {
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    config.check(&lengths, model.context())?;
    check_tokens(prompts, model.vocab_size())?;
    let samplers = (0..prompts.len()).map(|row| config.sampling.try_init_row(row)).collect::<Result<_, _>>()?;
    let model = &model.valid();
    let mut rows = Rows { model, vocab, chunk: config.prefill_chunk, samplers, texts: prompts.to_vec() };
    let mut generation = TokenGeneration { tokens: vec![Vec::new(); prompts.len()], ..TokenGeneration::default() };

    let mut active: Vec<usize> = (0..prompts.len()).collect();
    let mut window: Option<Window> = None;
    for step in 0..config.tokens {
        let began = Instant::now();
        let logits = match &mut window {
            Some(window) if window.used < model.context() => rows.advance(window)?,
            _ => {
                let (opened, logits) = rows.open(active.clone(), config.tokens - step)?;
                window = Some(opened);
                logits
            }
        };
        let Some(window) = &window else { unreachable!("a window is open after the first step") };
        let drawn = rows.draw(window, logits, &active)?;
        let time = began.elapsed();
        match step {
            0 => generation.prefill = Speed::new(window.seen, time),
            _ => generation.decode += Speed::new(drawn.len(), time),
        }
        for (row, token) in drawn {
            rows.texts[row].push(token);
            generation.tokens[row].push(token);
            if on_token(row, token)?.is_break() {
                active.retain(|other| *other != row);
            }
        }
        if active.is_empty() {
            break;
        }
    }
    Ok(generation)
}

/// # Errors
///
/// If a token is not in a vocabulary of this size.
fn check_tokens(prompts: &[Vec<u32>], vocab: usize) -> Result<(), GenerateError> {
    let unknown = |prompt: &Vec<u32>| prompt.iter().copied().find(|token| *token as usize >= vocab);
    match prompts.iter().enumerate().find_map(|(index, prompt)| Some((index, unknown(prompt)?))) {
        Some((index, token)) => Err(GenerateError::Token { index, token, vocab }),
        None => Ok(()),
    }
}

/// The rows in the cache, and how full it is.
struct Window {
    rows: Vec<usize>,
    cache: KvCache,
    /// Places of the cache in use, padding included.
    used: usize,
    /// Tokens that were in the window when it was opened.
    seen: usize,
}

/// All rows of the batch.
struct Rows<'a, M> {
    model: &'a M,
    vocab: usize,
    chunk: usize,
    samplers: Vec<Sampler>,
    /// Prompts and new tokens.
    texts: Vec<Vec<u32>>,
}

impl<M: Decoder> Rows<'_, M> {
    /// Starts with the texts of `rows`, or with the last half context of each if one does not fit; also returns the logits
    /// `[rows, 1, vocab]` of the next tokens.
    fn open(&self, rows: Vec<usize>, new: usize) -> Result<(Window, Tensor<3>), GenerateError> {
        let context = self.model.context();
        let fits = rows.iter().all(|row| self.texts[*row].len() <= context);
        let longest = if fits { context } else { context.div_ceil(2) };
        let visible = rows.iter().map(|row| &self.texts[*row][self.texts[*row].len().saturating_sub(longest)..]);
        let visible: Vec<&[u32]> = visible.collect();
        let length = visible.iter().map(|text| text.len()).max().unwrap_or(0);
        let padding: Vec<usize> = visible.iter().map(|text| length - text.len()).collect();

        let capacity = context.min(length + new);
        let mut cache = self.model.cache(capacity).with_padding(padding.clone());
        let row = |(text, padding): (&&[u32], &usize)| std::iter::repeat_n(0, *padding).chain(text.to_vec());
        let tokens = visible.iter().zip(&padding).flat_map(row).collect();
        let tokens = self.tensor(tokens, rows.len());
        // The head runs on the last token only.
        let last = (length - 1) / self.chunk * self.chunk;
        for start in (0..last).step_by(self.chunk) {
            self.model.features_cached(tokens.clone().narrow(1, start, self.chunk), &mut cache)?;
        }
        let logits = self.model.forward_cached(tokens.narrow(1, last, length - last), &mut cache)?;
        let seen = visible.iter().map(|text| text.len()).sum();
        Ok((Window { rows, cache, used: length, seen }, logits))
    }

    /// Adds the last token of every row; the result is that of [`open`](Self::open).
    fn advance(&self, window: &mut Window) -> Result<Tensor<3>, GenerateError> {
        let tokens = window.rows.iter().filter_map(|row| self.texts[*row].last().copied()).collect();
        let tokens = self.tensor(tokens, window.rows.len());
        window.used += 1;
        Ok(self.model.forward_cached(tokens, &mut window.cache)?)
    }

    fn tensor(&self, tokens: Vec<u32>, rows: usize) -> Tensor<2, Int> {
        let length = tokens.len() / rows;
        let tokens: Vec<i32> = tokens.into_iter().map(|token| token as i32).collect();
        Tensor::from_data(TensorData::new(tokens, [rows, length]), &self.model.device())
    }

    /// The next token of every row that is `active`.
    fn draw(
        &mut self,
        window: &Window,
        logits: Tensor<3>,
        active: &[usize],
    ) -> Result<Vec<(usize, u32)>, GenerateError> {
        let [_, _, width] = logits.dims();
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let mut drawn = Vec::new();
        for (row, logits) in window.rows.iter().zip(logits.chunks_exact(width)) {
            if active.contains(row) {
                let token = self.samplers[*row].sample(&logits[..width.min(self.vocab)], &self.texts[*row])?;
                drawn.push((*row, token));
            }
        }
        Ok(drawn)
    }
}
