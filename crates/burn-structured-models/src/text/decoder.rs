//! Tokens to text, one at a time.

use super::tokenizer::Kind;
use super::{TextError, Tokenizer};

/// Decodes tokens as they come, and holds back bytes that are not a whole character yet.
///
/// The pieces together are what [`Tokenizer::decode`] gives for all tokens. For a `tokenizer.json`, whose decoder may look at
/// neighbouring tokens, this holds unless the tokens are no UTF-8.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    held: Held,
}

/// What the text so far lacks.
#[derive(Clone, Debug)]
enum Held {
    /// The first bytes of a character.
    Bytes(Vec<u8>),
    #[cfg(feature = "tokenizers")]
    Tokens(HeldTokens),
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        let held = match &tokenizer.kind {
            Kind::Bytes | Kind::Characters(_) => Held::Bytes(Vec::new()),
            #[cfg(feature = "tokenizers")]
            Kind::Gpt2 => Held::Bytes(Vec::new()),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(_) => Held::Tokens(HeldTokens::default()),
        };
        Self { tokenizer, held }
    }

    /// As if `tokens` had been pushed and their text taken: some decoders treat the first token of a text differently, which the first
    /// token of a continuation is not.
    #[must_use]
    pub fn after(mut self, tokens: &[u32]) -> Self {
        #[cfg(feature = "tokenizers")]
        if let Held::Tokens(held) = &mut self.held {
            held.tokens = tokens[tokens.len().saturating_sub(HeldTokens::MAX)..].to_vec();
            held.given = held.tokens.len();
        }
        // Bytes need nothing of what came before.
        #[cfg(not(feature = "tokenizers"))]
        let _ = (&mut self.held, tokens);
        self
    }

    /// Adds a token, and returns the text that is certain now; it may be empty.
    ///
    /// # Errors
    ///
    /// If the token is not in the vocabulary; it is then left out.
    pub fn push(&mut self, token: u32) -> Result<String, TextError> {
        match &mut self.held {
            Held::Bytes(bytes) => {
                self.tokenizer.push_bytes(token, bytes)?;
                Ok(take_complete(bytes))
            }
            #[cfg(feature = "tokenizers")]
            Held::Tokens(tokens) => tokens.push(self.tokenizer, token),
        }
    }

    /// Returns what was held back: U+FFFD for an incomplete character, or nothing. The decoder is then as new.
    ///
    /// # Errors
    ///
    /// If the tokenizer refuses the tokens.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let text = match &mut self.held {
            Held::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            #[cfg(feature = "tokenizers")]
            Held::Tokens(tokens) => tokens.new_text(self.tokenizer, true)?,
        };
        *self = Self::new(self.tokenizer);
        Ok(text)
    }
}

/// The last tokens of a `tokenizer.json`: those of the last piece of text, and those whose text is still to come.
#[cfg(feature = "tokenizers")]
#[derive(Clone, Debug, Default)]
struct HeldTokens {
    tokens: Vec<u32>,
    /// How many of them belong to the last piece.
    given: usize,
}

#[cfg(feature = "tokenizers")]
impl HeldTokens {
    /// The most tokens that are held back: a character has at most four bytes, and so at most four tokens.
    const MAX: usize = 4;

    fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, TextError> {
        self.tokens.push(token);
        self.new_text(tokenizer, false).inspect_err(|_| {
            self.tokens.pop();
        })
    }

    /// The text after that of the last piece; nothing if it ends in an incomplete character, unless `all` is wanted.
    ///
    /// The last piece is decoded again with the new tokens, as a decoder may treat the first token differently.
    fn new_text(&mut self, tokenizer: &Tokenizer, all: bool) -> Result<String, TextError> {
        let before = tokenizer.decode(&self.tokens[..self.given])?;
        let text = tokenizer.decode(&self.tokens)?;
        let incomplete = text.ends_with(char::REPLACEMENT_CHARACTER) && self.tokens.len() - self.given < Self::MAX;
        if incomplete && !all {
            return Ok(String::new());
        }
        self.tokens.drain(..self.given);
        self.given = self.tokens.len();
        Ok(text.get(before.len()..).unwrap_or_default().to_string())
    }
}

/// Removes whole characters from the front of `bytes`, and returns them; what cannot become a character is U+FFFD.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    loop {
        let error = match str::from_utf8(&bytes[done..]) {
            Ok(rest) => {
                text.push_str(rest);
                done = bytes.len();
                break;
            }
            Err(error) => error,
        };
        let valid = done + error.valid_up_to();
        text.push_str(&String::from_utf8_lossy(&bytes[done..valid]));
        done = valid;
        // The character may be complete with the bytes to come.
        let Some(invalid) = error.error_len() else { break };
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid;
    }
    bytes.drain(..done);
    text
}
