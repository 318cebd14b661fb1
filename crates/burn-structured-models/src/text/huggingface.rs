//! Hugging Face's `tokenizer.json`.

use super::TextError;
use std::path::Path;

/// What a text ends with in the tokenizers of common language models.
const END_OF_TEXT: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

pub(super) struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    /// The file as it was read.
    json: Vec<u8>,
    vocab_size: usize,
    end_of_text: Option<u32>,
}

impl HuggingFace {
    /// The tokenizer in the file `json`, which was read from `path`.
    pub fn new(json: Vec<u8>, path: &Path) -> Result<Self, TextError> {
        let error = |reason: String| TextError::Tokenizer { path: path.to_owned(), reason };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&json).map_err(|source| error(source.to_string()))?;
        // Texts are neither cut nor filled up, and special tokens that are spelled out in them are text.
        tokenizer.with_truncation(None).map_err(|source| error(source.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let vocabulary = tokenizer.get_vocab(true);
        let last = vocabulary.values().max().ok_or_else(|| error("its vocabulary is empty".into()))?;
        let end_of_text = END_OF_TEXT.iter().find_map(|name| vocabulary.get(*name).copied());
        Ok(Self { vocab_size: *last as usize + 1, end_of_text, tokenizer, json })
    }

    pub fn json(&self) -> &[u8] {
        &self.json
    }

    pub fn name(&self) -> String {
        format!("tokenizer.json ({} tokens)", self.vocab_size)
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, false)
    }

    /// With the special tokens of the file's post-processor.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, true)
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let encoded = self.tokenizer.encode_fast(text, special);
        let error =
            |source: tokenizers::Error| TextError::Encode { tokenizer: self.name(), reason: source.to_string() };
        Ok(encoded.map_err(error)?.get_ids().to_vec())
    }

    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        if let Some(token) = tokens.iter().find(|token| self.tokenizer.id_to_token(**token).is_none()) {
            return Err(TextError::Token { token: *token, tokenizer: self.name(), vocab_size: self.vocab_size });
        }
        let error =
            |source: tokenizers::Error| TextError::Decode { tokenizer: self.name(), reason: source.to_string() };
        self.tokenizer.decode(tokens, false).map_err(error)
    }
}
