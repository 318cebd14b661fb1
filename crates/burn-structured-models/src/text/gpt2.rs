//! GPT-2's byte pairs, bundled by `tiktoken-rs`.

use super::TextError;
use std::collections::HashSet;
use tiktoken_rs::{CoreBPE, r50k_base_singleton};

pub(super) const NAME: &str = "gpt2";
pub(super) const VOCAB_SIZE: usize = 50257;
pub(super) const END_OF_TEXT: u32 = 50256;

/// The vocabulary, which is read at the first use.
fn bpe() -> &'static CoreBPE {
    r50k_base_singleton()
}

pub(super) fn encode(text: &str) -> Result<Vec<u32>, TextError> {
    // `encode_ordinary` gives the same tokens, but panics where the regular expression runs out of stack.
    let encoded = bpe().encode(text, &HashSet::new());
    let (tokens, _) = encoded.map_err(|error| {
        let reason = format!("{}; shorten its runs of a million spaces", error.message);
        TextError::Encode { tokenizer: NAME.into(), reason }
    })?;
    Ok(tokens)
}

/// The bytes of a token, which need not be whole characters.
pub(super) fn bytes(token: u32) -> Option<Vec<u8>> {
    bpe().decode_bytes(&[token]).ok()
}
