//! From text to tokens and back, for language models.
//!
//! | tokenizer | tokens | unknown text |
//! |---|---|---|
//! | [`Tokenizer::bytes`] | the 256 bytes of UTF-8 | none |
//! | [`Tokenizer::characters_of`] | the characters of a text, as in nanoGPT's Shakespeare | an error |
//! | `Tokenizer::gpt2` | GPT-2's byte pairs, bundled; needs the feature `tokenizers` | none |
//! | [`Tokenizer::from_file`] | any Hugging Face `tokenizer.json`; needs the feature `tokenizers` | the file decides |
//!
//! GPT-2's byte pairs come from the crate `tiktoken-rs`, a port of OpenAI's own tokenizer that bundles the vocabulary (as
//! `r50k_base`) and works without a network. `bpe-openai` bundles only the later `cl100k` and `o200k`; `tiktoken` has GPT-2's
//! as well, but fewer users.
//!
//! ```
//! use burn_structured_models::text::Tokenizer;
//!
//! let tokenizer = Tokenizer::bytes();
//! let tokens = tokenizer.encode("é!")?;
//! assert_eq!(tokens, [0xc3, 0xa9, 0x21]);
//! assert_eq!(tokenizer.decode(&tokens)?, "é!");
//!
//! // A model gives one token at a time; a character appears when its last byte has arrived.
//! let mut decoder = tokenizer.decoder();
//! let pieces: Vec<String> = tokens.iter().map(|token| decoder.push(*token)).collect::<Result<_, _>>()?;
//! assert_eq!(pieces, ["", "é", "!"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod characters;
mod decoder;
mod error;
mod file;
#[cfg(feature = "tokenizers")]
mod gpt2;
#[cfg(feature = "tokenizers")]
mod huggingface;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use decoder::StreamDecoder;
pub use error::TextError;
pub use tokenizer::Tokenizer;
