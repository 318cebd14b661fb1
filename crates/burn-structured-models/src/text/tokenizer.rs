//! One type for all tokenizers.

use super::characters::Characters;
#[cfg(feature = "tokenizers")]
use super::gpt2;
#[cfg(feature = "tokenizers")]
use super::huggingface::HuggingFace;
use super::{StreamDecoder, TextError, file};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Turns text into tokens and tokens into text. Clones share their vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) kind: Kind,
}

#[derive(Clone)]
pub(super) enum Kind {
    Bytes,
    Characters(Arc<Characters>),
    #[cfg(feature = "tokenizers")]
    Gpt2,
    #[cfg(feature = "tokenizers")]
    HuggingFace(Arc<HuggingFace>),
}

impl Tokenizer {
    /// The 256 bytes of UTF-8.
    pub fn bytes() -> Self {
        Self { kind: Kind::Bytes }
    }

    /// The different characters of `text`, by code point. Any other character is an error in [`encode`](Self::encode).
    pub fn characters_of(text: &str) -> Self {
        Self { kind: Kind::Characters(Arc::new(Characters::of(text))) }
    }

    /// GPT-2's 50,257 byte pairs.
    #[cfg(feature = "tokenizers")]
    pub fn gpt2() -> Self {
        Self { kind: Kind::Gpt2 }
    }

    /// Reads a Hugging Face `tokenizer.json`, or a `text.json` that [`save`](Self::save) wrote.
    ///
    /// Texts are neither truncated nor padded, and no special tokens are put around them, whatever the file says.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no tokenizer, or if the feature `tokenizers` is needed and off.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TextError> {
        file::read(path.as_ref())
    }

    /// Reads the tokenizer of a model folder: `text.json`, or else `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file), or if the folder has neither.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TextError> {
        file::read_folder(folder.as_ref())
    }

    /// Writes `text.json`, or `tokenizer.json` as it was read, to `folder`, which is created if need be.
    ///
    /// The file is complete or absent. A `text.json` that would hide the `tokenizer.json` is removed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), TextError> {
        file::write(self, folder.as_ref())
    }

    /// The tokens of `text`. Special tokens that are spelled out in it, such as `<|endoftext|>`, are text as well.
    ///
    /// # Errors
    ///
    /// If the vocabulary lacks a character of the text, or the tokenizer refuses it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.kind {
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Kind::Characters(characters) => characters.encode(text),
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => gpt2::encode(text),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(tokenizer) => tokenizer.encode(text),
        }
    }

    /// The tokens of the beginning of a text: with what a `tokenizer.json` puts in front of each, such as Llama's `<s>`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.kind {
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(tokenizer) => tokenizer.encode_prompt(text),
            _ => self.encode(text),
        }
    }

    /// The text of `tokens`; bytes that are no UTF-8 become U+FFFD, as models generate such bytes now and then.
    ///
    /// # Errors
    ///
    /// If a token is not in the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        #[cfg(feature = "tokenizers")]
        if let Kind::HuggingFace(tokenizer) = &self.kind {
            return tokenizer.decode(tokens);
        }
        let mut bytes = Vec::new();
        tokens.iter().try_for_each(|token| self.push_bytes(*token, &mut bytes))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Decodes tokens one at a time.
    pub fn decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// One more than the largest token: the vocabulary that a model needs.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Bytes => 256,
            Kind::Characters(characters) => characters.len(),
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => gpt2::VOCAB_SIZE,
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// The token that stands between texts; bytes and characters have none.
    pub fn end_of_text(&self) -> Option<u32> {
        match &self.kind {
            Kind::Bytes | Kind::Characters(_) => None,
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => Some(gpt2::END_OF_TEXT),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(tokenizer) => tokenizer.end_of_text(),
        }
    }

    /// A short name for reports: `bytes`, `characters (65)`, `gpt2`, `tokenizer.json (32000 tokens)`.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Bytes => "bytes".into(),
            Kind::Characters(characters) => format!("characters ({})", characters.len()),
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => gpt2::NAME.into(),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(tokenizer) => tokenizer.name(),
        }
    }

    /// Appends the bytes of `token`, which need not be whole characters.
    ///
    /// # Panics
    ///
    /// For a `tokenizer.json`, whose tokens have no bytes of their own.
    pub(super) fn push_bytes(&self, token: u32, bytes: &mut Vec<u8>) -> Result<(), TextError> {
        let found = match &self.kind {
            Kind::Bytes => u8::try_from(token).ok().map(|byte| bytes.push(byte)),
            Kind::Characters(characters) => {
                let mut buffer = [0; 4];
                let character = characters.character(token);
                character.map(|character| bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()))
            }
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => gpt2::bytes(token).map(|piece| bytes.extend(piece)),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(_) => unreachable!("a tokenizer.json decodes tokens to text"),
        };
        found.ok_or_else(|| TextError::Token { token, tokenizer: self.name(), vocab_size: self.vocab_size() })
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({})", self.name())
    }
}
