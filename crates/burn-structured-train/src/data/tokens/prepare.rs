//! From a text to its tokens, block by block.

use super::{Text, TokenFile, TokenLayout, TokenWriter, blocks};
use crate::data::DataError;
use burn_structured_models::text::Tokenizer;
use std::path::Path;

/// How far [`prepare`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Bytes of the text that are read.
    pub bytes: u64,
    /// All its bytes.
    pub total_bytes: u64,
    /// Tokens that are written.
    pub tokens: u64,
}

/// Writes the tokens of `text` to `path`, and opens the file; between two files of the text stands the token that ends a text,
/// if the tokenizer has one.
///
/// The text goes through the tokenizer in blocks of a mebibyte, so that memory does not grow with it. Blocks end before a
/// space that follows a letter or digit. Bytes, characters and the byte pairs of GPT-2 and its successors then give the tokens
/// of the whole text; a `tokenizer.json` that looks beyond words may give others where two blocks meet. A block without such
/// a place ends anywhere.
///
/// # Errors
///
/// If a file cannot be read or written, the tokenizer refuses a text, or its vocabulary does not fit the file.
pub fn prepare(
    text: &Text,
    tokenizer: &Tokenizer,
    path: impl AsRef<Path>,
    layout: TokenLayout,
    progress: impl FnMut(PrepareProgress),
) -> Result<TokenFile, DataError> {
    let mut writer = TokenWriter::create(path, layout, tokenizer.vocab_size())?;
    encode(text, tokenizer, blocks::BLOCK, |tokens| writer.write(tokens), progress)?;
    writer.finish()
}

/// Gives the tokens of `text` to `write`, reading `block` bytes at once.
pub(super) fn encode(
    text: &Text,
    tokenizer: &Tokenizer,
    block: usize,
    mut write: impl FnMut(&[u32]) -> Result<(), DataError>,
    mut progress: impl FnMut(PrepareProgress),
) -> Result<(), DataError> {
    let mut done = PrepareProgress { bytes: 0, total_bytes: text.bytes(), tokens: 0 };
    for (index, part) in text.parts.iter().enumerate() {
        let mut give = |text: &str| {
            let tokens = tokenizer.encode(text);
            let tokens = tokens.map_err(|source| DataError::Tokenize { name: part.origin.name(), source })?;
            done.bytes += text.len() as u64;
            done.tokens += tokens.len() as u64;
            write(&tokens)?;
            progress(done);
            Ok::<_, DataError>(())
        };
        let mut rest = String::new();
        let mut blocks = part.blocks(block)?;
        while let Some(block) = blocks.next()? {
            rest.push_str(&block);
            let end = word_end(&rest);
            give(&rest[..end])?;
            rest.drain(..end);
        }
        if !rest.is_empty() {
            give(&rest)?;
        }
        if let (Some(end), true) = (tokenizer.end_of_text(), index + 1 < text.parts.len()) {
            write(&[end])?;
            done.tokens += 1;
        }
    }
    Ok(())
}

/// The last place before a space that follows a letter or digit, or else the end.
fn word_end(text: &str) -> usize {
    let characters = text.char_indices().rev();
    let mut pairs = characters.clone().zip(characters.skip(1));
    let found = pairs.find(|((_, after), (_, before))| *after == ' ' && before.is_alphanumeric());
    found.map_or(text.len(), |((index, _), _)| index)
}
