//! What can go wrong between a prompt and its continuation.

use crate::decoder::DecoderError;
use crate::text::TextError;
use thiserror::Error;

/// Why no text could be generated. Each message says what to change.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A setting is out of range.
    #[error("{name} = {value} cannot be used; {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that work.
        expected: &'static str,
    },
    /// There is nothing to continue.
    #[error("there is no prompt to continue; give at least one")]
    NoPrompts,
    /// A prompt has no tokens, and the tokenizer has none that starts a text.
    #[error("prompt {index} is empty; give at least one character")]
    EmptyPrompt {
        /// The prompt's position, from 0.
        index: usize,
    },
    /// Prompt and continuation do not fit into the model's context.
    #[error(
        "prompt {index} of {prompt} tokens and {new} new ones are more than the model's context of {context}; {}, or let the \
         context slide",
        way_out(*prompt, *context)
    )]
    Context {
        /// The prompt's position, from 0.
        index: usize,
        /// Its tokens.
        prompt: usize,
        /// The tokens to generate.
        new: usize,
        /// The tokens that the model can see.
        context: usize,
    },
    /// A prompt holds a token that the model does not know.
    #[error(
        "prompt {index} holds the token {token}, but the model has only {vocab}; use the tokenizer that it was trained with"
    )]
    Token {
        /// The prompt's position, from 0.
        index: usize,
        /// The token.
        token: u32,
        /// The model's number of tokens.
        vocab: usize,
    },
    /// Text and model were made for different vocabularies.
    #[error(
        "the tokenizer ({tokenizer}) has {found} tokens, but the model only {expected}; use the tokenizer that the model was \
         trained with"
    )]
    Vocabulary {
        /// The tokenizer's name.
        tokenizer: String,
        /// Its number of tokens.
        found: usize,
        /// The model's number of tokens.
        expected: usize,
    },
    /// The model computed no number.
    #[error(
        "the model gave token {token} the logit {value}; its weights are damaged, or the device's number type is too narrow \
         for it"
    )]
    Logit {
        /// The token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Every token has probability zero.
    #[error("the model gave no token a finite logit; its weights are damaged")]
    NoLogits,
    /// The model cannot be run on these tokens.
    #[error(transparent)]
    Model(#[from] DecoderError),
    /// Text cannot be turned into tokens, or tokens into text.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// What fits instead.
fn way_out(prompt: usize, context: usize) -> String {
    match context.saturating_sub(prompt) {
        0 => "shorten the prompt".into(),
        room => format!("generate at most {room}, shorten the prompt"),
    }
}
