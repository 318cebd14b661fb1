//! Tokenizers by name.

use burn_structured::models::text::{TextError, Tokenizer};

/// The tokenizer called `name`: `bytes`, `gpt2`, or else a file.
pub fn from_name(name: &str) -> Result<Tokenizer, TextError> {
    match name {
        "bytes" => Ok(Tokenizer::bytes()),
        "gpt2" => Ok(Tokenizer::gpt2()),
        path => Tokenizer::from_file(path),
    }
}
