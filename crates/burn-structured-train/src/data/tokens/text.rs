//! Text to train on.

use super::blocks::{BLOCK, Blocks, Origin};
use super::{TokenSource, prepare};
use crate::data::DataError;
use burn_structured_models::text::Tokenizer;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// UTF-8 text in files or in memory, of which only a block is read at a time. Its halves share it.
#[derive(Clone, Debug)]
pub struct Text {
    pub(super) parts: Vec<Part>,
    alphabet: Arc<str>,
}

/// A range of one file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub origin: Origin,
    pub bytes: Range<u64>,
    pub characters: u64,
}

/// How compressed files start, and what unpacks them.
const COMPRESSED: [(&[u8], &str); 3] =
    [(b"\xfd7zXZ\0", "xz -dk"), (b"\x1f\x8b", "gzip -dk"), (b"\x28\xb5\x2f\xfd", "zstd -d")];

impl Text {
    /// The text of one or more files, one after the other.
    ///
    /// The files are read once to see that they are text. They must not be changed as long as the text is in use.
    ///
    /// # Errors
    ///
    /// If there is no file, or one cannot be read, is empty, compressed, or no UTF-8.
    pub fn from_files<P: AsRef<Path>>(paths: &[P]) -> Result<Self, DataError> {
        let origins = paths.iter().map(|path| {
            check_unpacked(path.as_ref())?;
            Ok(Origin::File(path.as_ref().to_owned()))
        });
        Self::scan(origins.collect::<Result<_, _>>()?)
    }

    /// A text in memory; `name` stands for the file in error messages.
    ///
    /// # Errors
    ///
    /// If the text is empty.
    pub fn from_memory(name: &str, text: &str) -> Result<Self, DataError> {
        Self::scan(vec![Origin::Memory { name: name.into(), bytes: text.as_bytes().into() }])
    }

    fn scan(origins: Vec<Origin>) -> Result<Self, DataError> {
        if origins.is_empty() {
            return Err(DataError::EmptyText { name: "the list of text files".into() });
        }
        // One flag for each code point: faster than a set.
        let mut known = vec![false; char::MAX as usize + 1];
        let mut parts = Vec::new();
        for origin in origins {
            let bytes = 0..origin.len()?;
            let mut characters = 0;
            let mut blocks = Blocks::new(&origin, bytes.clone(), BLOCK)?;
            while let Some(block) = blocks.next()? {
                for character in block.chars() {
                    characters += 1;
                    known[character as usize] = true;
                }
            }
            if characters == 0 {
                return Err(DataError::EmptyText { name: origin.name() });
            }
            parts.push(Part { origin, bytes, characters });
        }
        let alphabet: String = ('\0'..=char::MAX).filter(|character| known[*character as usize]).collect();
        Ok(Self { parts, alphabet: alphabet.into() })
    }

    /// The files, or the name of the text in memory.
    pub fn name(&self) -> String {
        let names: Vec<String> = self.parts.iter().map(|part| part.origin.name()).collect();
        names.join(", ")
    }

    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.end - part.bytes.start).sum()
    }

    /// The number of characters.
    pub fn characters(&self) -> u64 {
        self.parts.iter().map(|part| part.characters).sum()
    }

    /// Its different characters, by code point. Both halves of a split have those of the whole, as in nanoGPT.
    pub fn alphabet(&self) -> &str {
        &self.alphabet
    }

    /// The first `⌊share · characters⌋` characters, and the others.
    ///
    /// nanoGPT trains on a `share` of 0.9 and validates on the rest.
    ///
    /// # Errors
    ///
    /// If one of the two would be empty, or a file cannot be read any more.
    pub fn split(&self, share: f64) -> Result<(Self, Self), DataError> {
        let total = self.characters();
        let mut left = (total as f64 * share) as u64;
        if !(share > 0.0 && share < 1.0 && left > 0) {
            return Err(DataError::Setting {
                name: "training share",
                value: share.to_string(),
                expected: "give a number between 0 and 1 that leaves text for training and for validation",
            });
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for part in &self.parts {
            let count = part.characters.min(left);
            left -= count;
            match count {
                0 => second.push(part.clone()),
                _ if count == part.characters => first.push(part.clone()),
                _ => {
                    let [before, after] = part.split(count)?;
                    first.push(before);
                    second.push(after);
                }
            }
        }
        let text = |parts| Self { parts, alphabet: self.alphabet.clone() };
        Ok((text(first), text(second)))
    }

    /// The tokens, in memory. Between two files stands the token that ends a text, if the tokenizer has one.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the tokenizer refuses its text.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<TokenSource, DataError> {
        let mut tokens = Vec::new();
        let push = |block: &[u32]| {
            tokens.extend_from_slice(block);
            Ok(())
        };
        prepare::encode(self, tokenizer, BLOCK, push, |_| {})?;
        Ok(TokenSource::named(&self.name(), tokens))
    }
}

impl Part {
    pub fn blocks(&self, size: usize) -> Result<Blocks, DataError> {
        Blocks::new(&self.origin, self.bytes.clone(), size)
    }

    /// The first `count` characters, fewer than there are, and the others.
    fn split(&self, count: u64) -> Result<[Self; 2], DataError> {
        let mut left = count;
        let mut blocks = self.blocks(BLOCK)?;
        let cut = loop {
            let start = blocks.position();
            // The file had more characters when it was scanned.
            let Some(block) = blocks.next()? else { break start };
            match block.char_indices().nth(left as usize) {
                Some((index, _)) => break start + index as u64,
                None => left -= block.chars().count() as u64,
            }
        };
        let part = |bytes, characters| Self { origin: self.origin.clone(), bytes, characters };
        Ok([part(self.bytes.start..cut, count), part(cut..self.bytes.end, self.characters - count)])
    }
}

fn check_unpacked(path: &Path) -> Result<(), DataError> {
    let reading = |source| DataError::io("read", path, source);
    let mut start = Vec::new();
    File::open(path).map_err(reading)?.take(8).read_to_end(&mut start).map_err(reading)?;
    match COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, command)) => Err(DataError::Compressed { path: path.to_owned(), command }),
        None => Ok(()),
    }
}
