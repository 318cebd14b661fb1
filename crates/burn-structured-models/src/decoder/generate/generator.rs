//! From prompts to texts.

use super::stop::StopStrings;
use super::tokens::generate_below;
use super::{GenerateError, GenerationConfig, Speed};
use crate::decoder::Decoder;
use crate::text::{StreamDecoder, Tokenizer};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Continues texts with a model and its tokenizer.
#[derive(Debug)]
pub struct Generator<'a, M> {
    model: &'a M,
    tokenizer: &'a Tokenizer,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// It has as many new tokens as were wanted.
    Length,
    /// The model ended it.
    EndOfText,
    /// It reached a stop string.
    StopString,
}

/// What follows a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// The new text, without prompt and stop string.
    pub text: String,
    /// The number of its new tokens, those of a stop string and the end included.
    pub tokens: usize,
    /// Why it ends.
    pub finish: FinishReason,
}

/// The continuations of all prompts, and how fast they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// One for each prompt.
    pub continuations: Vec<Continuation>,
    /// The prompts' way through the model, up to the first new token of each.
    pub prefill: Speed,
    /// Every further new token.
    pub decode: Speed,
}

impl<'a, M: Decoder> Generator<'a, M> {
    /// A generator.
    ///
    /// # Errors
    ///
    /// If the tokenizer has more tokens than the model.
    pub fn new(model: &'a M, tokenizer: &'a Tokenizer) -> Result<Self, GenerateError> {
        let (found, expected) = (tokenizer.vocab_size(), model.vocab_size());
        if found > expected {
            return Err(GenerateError::Vocabulary { tokenizer: tokenizer.name(), found, expected });
        }
        Ok(Self { model, tokenizer })
    }

    /// Continues several prompts at once; `on_text` is called with the prompt's position and each piece of new text as soon as
    /// it is certain.
    ///
    /// An empty prompt stands for the token that ends a text, with which training texts are separated, if the tokenizer has
    /// one.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, a prompt is empty or does not fit into the context, a prompt holds a character that the
    /// tokenizer does not know, or the model's logits are no numbers.
    pub fn generate<S: AsRef<str>>(
        &self,
        prompts: &[S],
        config: &GenerationConfig,
        mut on_text: impl FnMut(usize, &str),
    ) -> Result<Generation, GenerateError> {
        let end = self.tokenizer.end_of_text();
        let encode = |prompt: &S| match self.tokenizer.encode_prompt(prompt.as_ref()) {
            Ok(tokens) if tokens.is_empty() => Ok(end.into_iter().collect()),
            tokens => tokens,
        };
        let tokens = prompts.iter().map(encode).collect::<Result<Vec<Vec<u32>>, _>>()?;
        let mut rows: Vec<Row<'_>> =
            tokens.iter().map(|prompt| Row::new(self.tokenizer, prompt, &config.stop)).collect();
        let generation = generate_below(self.tokenizer.vocab_size(), self.model, &tokens, config, |index, token| {
            let row = &mut rows[index];
            let ends = Some(token) == end || config.end_tokens.contains(&token);
            let text = if ends { row.end()? } else { row.push(token)? };
            if !text.is_empty() {
                on_text(index, &text);
            }
            Ok(if row.finish == FinishReason::Length { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let mut continuations = Vec::new();
        for (index, (mut row, tokens)) in rows.into_iter().zip(generation.tokens).enumerate() {
            if row.finish == FinishReason::Length {
                let rest = row.rest()?;
                if !rest.is_empty() {
                    on_text(index, &rest);
                }
            }
            continuations.push(Continuation { text: row.text, tokens: tokens.len(), finish: row.finish });
        }
        Ok(Generation { continuations, prefill: generation.prefill, decode: generation.decode })
    }
}

/// The text of a row as it grows.
struct Row<'a> {
    decoder: StreamDecoder<'a>,
    stop: StopStrings<'a>,
    text: String,
    /// [`FinishReason::Length`] as long as nothing else ended the text.
    finish: FinishReason,
}

impl<'a> Row<'a> {
    fn new(tokenizer: &'a Tokenizer, prompt: &[u32], stop: &'a [String]) -> Self {
        let decoder = tokenizer.decoder().after(prompt);
        Self { decoder, stop: StopStrings::new(stop), text: String::new(), finish: FinishReason::Length }
    }

    /// Adds a token, and returns the text that is certain now.
    fn push(&mut self, token: u32) -> Result<String, GenerateError> {
        let piece = self.decoder.push(token)?;
        let (text, found) = self.stop.push(&piece);
        if found {
            self.finish = FinishReason::StopString;
        }
        self.text.push_str(&text);
        Ok(text)
    }

    /// The model ended the text.
    fn end(&mut self) -> Result<String, GenerateError> {
        let text = self.rest()?;
        if self.finish == FinishReason::Length {
            self.finish = FinishReason::EndOfText;
        }
        Ok(text)
    }

    /// The text that was held back.
    fn rest(&mut self) -> Result<String, GenerateError> {
        let piece = self.decoder.finish()?;
        let (mut text, found) = self.stop.push(&piece);
        if found {
            self.finish = FinishReason::StopString;
        } else {
            text += &self.stop.finish();
        }
        self.text.push_str(&text);
        Ok(text)
    }
}
