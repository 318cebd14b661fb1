//! Where tokens are read from.

use super::TokenFile;
use crate::data::DataError;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A range of a token file, or of tokens in memory. Clones and slices share them.
#[derive(Clone)]
pub struct TokenSource {
    tokens: Tokens,
    range: Range<usize>,
}

#[derive(Clone)]
enum Tokens {
    File(Arc<TokenFile>),
    Memory { name: Arc<str>, tokens: Arc<[u32]> },
}

impl TokenSource {
    /// All tokens of a file.
    ///
    /// # Errors
    ///
    /// As [`TokenFile::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Ok(TokenFile::open(path)?.into())
    }

    /// Tokens in memory.
    pub fn memory(tokens: Vec<u32>) -> Self {
        Self::named("the token list", tokens)
    }

    /// Tokens in memory, with a name for error messages.
    pub fn named(name: &str, tokens: Vec<u32>) -> Self {
        Self { range: 0..tokens.len(), tokens: Tokens::Memory { name: name.into(), tokens: tokens.into() } }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The tokens at the positions of `range`, as a source.
    ///
    /// # Panics
    ///
    /// If the range ends behind the tokens.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { tokens: self.tokens.clone(), range: self.within(range) }
    }

    /// The tokens at the positions of `range`.
    ///
    /// # Errors
    ///
    /// If a token is not below `vocab_size`.
    ///
    /// # Panics
    ///
    /// If the range ends behind the tokens.
    pub fn read(&self, range: Range<usize>, vocab_size: usize) -> Result<Vec<u32>, DataError> {
        let range = self.within(range);
        match &self.tokens {
            Tokens::File(file) => file.read(range, vocab_size),
            Tokens::Memory { name, tokens } => {
                let start = range.start;
                let tokens = tokens[range].to_vec();
                check(&tokens, vocab_size, start, || name.to_string())?;
                Ok(tokens)
            }
        }
    }

    /// The file, or the name of the tokens in memory.
    pub fn name(&self) -> String {
        match &self.tokens {
            Tokens::File(file) => file.path().display().to_string(),
            Tokens::Memory { name, .. } => name.to_string(),
        }
    }

    /// `range` of this source as a range of all tokens.
    fn within(&self, range: Range<usize>) -> Range<usize> {
        assert!(range.start <= range.end && range.end <= self.len(), "tokens {range:?} of {}", self.len());
        self.range.start + range.start..self.range.start + range.end
    }

    /// # Errors
    ///
    /// If there are fewer than `needed` tokens.
    pub(crate) fn check_len(&self, needed: usize) -> Result<(), DataError> {
        match self.len() {
            tokens if tokens < needed => Err(DataError::TooFewTokens { name: self.name(), tokens, needed }),
            _ => Ok(()),
        }
    }
}

impl From<TokenFile> for TokenSource {
    fn from(file: TokenFile) -> Self {
        Self { range: 0..file.len(), tokens: Tokens::File(Arc::new(file)) }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSource({}, {:?})", self.name(), self.range)
    }
}

/// # Errors
///
/// If one of `tokens`, which are those from position `start` of the source `name`, is not below `vocab_size`.
pub(super) fn check(
    tokens: &[u32],
    vocab_size: usize,
    start: usize,
    name: impl FnOnce() -> String,
) -> Result<(), DataError> {
    match tokens.iter().position(|token| *token as usize >= vocab_size) {
        Some(index) => {
            Err(DataError::Token { name: name(), position: start + index, token: tokens[index], vocab_size })
        }
        None => Ok(()),
    }
}
