//! A vocabulary of single characters.

use super::TextError;
use std::collections::{BTreeSet, HashMap};

/// Characters, each of which is the token of its position.
#[derive(Debug)]
pub(super) struct Characters {
    characters: Vec<char>,
    tokens: HashMap<char, u32>,
}

impl Characters {
    /// The different characters of a text, by code point as in nanoGPT's `sorted(set(text))`.
    pub fn of(text: &str) -> Self {
        let characters: BTreeSet<char> = text.chars().collect();
        Self::in_order(characters.into_iter().collect())
    }

    /// These characters in this order; the error is one that occurs twice.
    pub fn listed(text: &str) -> Result<Self, char> {
        let mut seen = BTreeSet::new();
        match text.chars().find(|character| !seen.insert(*character)) {
            Some(character) => Err(character),
            None => Ok(Self::in_order(text.chars().collect())),
        }
    }

    fn in_order(characters: Vec<char>) -> Self {
        let tokens = characters.iter().copied().zip(0..).collect();
        Self { characters, tokens }
    }

    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// All characters, in the order of their tokens.
    pub fn text(&self) -> String {
        self.characters.iter().collect()
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let token = |character| {
            let token = self.tokens.get(&character).copied();
            token.ok_or(TextError::Character { character, known: self.len() })
        };
        text.chars().map(token).collect()
    }

    pub fn character(&self, token: u32) -> Option<char> {
        self.characters.get(token as usize).copied()
    }
}
