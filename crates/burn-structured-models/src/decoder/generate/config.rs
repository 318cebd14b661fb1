//! The settings of a generation.

use super::{GenerateError, SamplingConfig, stop};
use burn::config::Config;
use serde::{Deserialize, Serialize};

/// What happens when a text outgrows the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Nothing is generated unless prompt and continuation fit.
    Error,
    /// The model starts again with the last half of its context each time that is full. The positions in the cache cannot be
    /// shifted, so these tokens are computed anew, once for every half context of new tokens. Of a prompt longer than the
    /// context only this half is seen.
    Slide,
}

/// What to generate, and how.
#[derive(Config, Debug, PartialEq)]
pub struct GenerationConfig {
    /// New tokens of every prompt, at most.
    #[config(default = 100)]
    pub tokens: usize,
    /// How a token is drawn.
    #[config(default = "SamplingConfig::new()")]
    pub sampling: SamplingConfig,
    /// Strings that end a text, and are not part of it.
    #[config(default = "Vec::new()")]
    pub stop: Vec<String>,
    /// Tokens that end a text of a [`Generator`](super::Generator), besides the tokenizer's; see
    /// [`end_tokens`](crate::decoder::end_tokens).
    #[config(default = "Vec::new()")]
    pub end_tokens: Vec<u32>,
    /// What happens at the end of the context.
    #[config(default = "Overflow::Error")]
    pub overflow: Overflow,
    /// Tokens of a prompt that go through the model at once; fewer need less memory.
    #[config(default = 512)]
    pub prefill_chunk: usize,
}

impl GenerationConfig {
    /// # Errors
    ///
    /// If a setting is out of range, or the prompts with these numbers of tokens do not fit.
    pub(super) fn check(&self, prompts: &[usize], context: usize) -> Result<(), GenerateError> {
        self.sampling.check()?;
        stop::check(&self.stop)?;
        for (name, value) in [("new tokens", self.tokens), ("prefill chunk", self.prefill_chunk)] {
            if value == 0 {
                return Err(GenerateError::Setting { name, value: "0".into(), expected: "give at least 1" });
            }
        }
        if prompts.is_empty() {
            return Err(GenerateError::NoPrompts);
        }
        if let Some(index) = prompts.iter().position(|tokens| *tokens == 0) {
            return Err(GenerateError::EmptyPrompt { index });
        }
        let fits = |prompt: &usize| prompt.saturating_add(self.tokens) <= context;
        match prompts.iter().position(|prompt| !fits(prompt)) {
            Some(index) if self.overflow == Overflow::Error => {
                Err(GenerateError::Context { index, prompt: prompts[index], new: self.tokens, context })
            }
            _ => Ok(()),
        }
    }
}
