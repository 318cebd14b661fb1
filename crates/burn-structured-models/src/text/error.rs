//! What can go wrong between text and tokens. Each message names the culprit and the way out.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a [`Tokenizer`](super::Tokenizer) cannot be read, written or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// A folder has no tokenizer.
    #[error("{} has neither text.json nor tokenizer.json; add one, or choose a tokenizer by name", folder.display())]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is no tokenizer.
    #[error("{} cannot be used as a tokenizer: {reason}; it must be the model's own file", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer that this build lacks.
    #[error("{name} needs the feature `tokenizers`; build with it, or use bytes or characters")]
    Feature {
        /// The tokenizer, or its file.
        name: String,
    },
    /// A character that the vocabulary lacks.
    #[error(
        "the character {character:?} (U+{:04X}) is not among the {known} of the vocabulary; remove it, or use bytes",
        u32::from(*character)
    )]
    Character {
        /// The character.
        character: char,
        /// Number of characters in the vocabulary.
        known: usize,
    },
    /// A token that the vocabulary lacks.
    #[error(
        "token {token} is not in the vocabulary of {tokenizer}, which has {vocab_size}; decode with the tokenizer that made it"
    )]
    Token {
        /// The token.
        token: u32,
        /// The tokenizer's name.
        tokenizer: String,
        /// Its number of tokens.
        vocab_size: usize,
    },
    /// A tokenizer refuses a text.
    #[error("{tokenizer} cannot encode the text: {reason}")]
    Encode {
        /// The tokenizer's name.
        tokenizer: String,
        /// Its answer.
        reason: String,
    },
    /// A tokenizer refuses tokens.
    #[error("{tokenizer} cannot decode the tokens: {reason}")]
    Decode {
        /// The tokenizer's name.
        tokenizer: String,
        /// Its answer.
        reason: String,
    },
}
