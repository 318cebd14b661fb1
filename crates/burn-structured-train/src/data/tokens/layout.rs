//! The layouts of token files.

use crate::data::DataError;
use std::path::Path;

/// How the tokens lie in a file; each is an unsigned 16-bit number, the low byte first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLayout {
    /// The tokens and nothing else, as nanoGPT's `train.bin`.
    #[default]
    NanoGpt,
    /// A header of 256 signed 32-bit numbers, the low byte first: 20240520, version 1, the number of tokens, and zeros; then
    /// the tokens. As llm.c's `*_train.bin`.
    LlmC,
}

/// Bytes of a token.
pub(super) const TOKEN: usize = 2;

/// Bytes of llm.c's header.
const HEADER: usize = 256 * 4;

const MAGIC: i32 = 20_240_520;
const VERSION: i32 = 1;

impl TokenLayout {
    /// Bytes before the first token.
    pub(super) fn header_len(self) -> usize {
        match self {
            Self::NanoGpt => 0,
            Self::LlmC => HEADER,
        }
    }

    /// The most tokens that a file can hold.
    pub(super) fn max_tokens(self) -> u64 {
        match self {
            Self::NanoGpt => u64::MAX / TOKEN as u64,
            Self::LlmC => i32::MAX as u64,
        }
    }

    /// The header of a file with so many tokens, which must not be more than [`max_tokens`](Self::max_tokens).
    pub(super) fn header(self, tokens: u64) -> Vec<u8> {
        let mut header = vec![0; self.header_len()];
        if self == Self::LlmC {
            let count = i32::try_from(tokens).expect("checked by the caller");
            for (number, bytes) in [MAGIC, VERSION, count].iter().zip(header.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
        }
        header
    }

    /// The layout and the number of tokens of a file of `bytes` bytes that starts with `start`, the first [`LOOK`] bytes of
    /// it or all.
    ///
    /// # Errors
    ///
    /// If a header and the size do not fit each other, or the tokens of a file without one are not whole or none.
    pub(super) fn detect(path: &Path, start: &[u8], bytes: u64) -> Result<(Self, u64), DataError> {
        let numbers: Vec<i32> = start
            .chunks_exact(4)
            .map(|number| i32::from_le_bytes([number[0], number[1], number[2], number[3]]))
            .collect();
        let header = |problem: String| Err(DataError::TokenHeader { path: path.to_owned(), problem });
        match numbers[..] {
            [MAGIC, VERSION, count, ..] => {
                let expected = u64::try_from(count).ok().map(|count| HEADER as u64 + count * TOKEN as u64);
                match expected {
                    Some(expected) if expected == bytes && count > 0 => Ok((Self::LlmC, count as u64)),
                    _ => header(format!("counts {count} tokens, which is not what its {bytes} bytes hold")),
                }
            }
            [MAGIC, version, ..] => header(format!("is of version {version} instead of {VERSION}")),
            [MAGIC_32_BIT, ..] => header("announces tokens of 32 bits instead of 16".into()),
            _ if bytes == 0 || !bytes.is_multiple_of(TOKEN as u64) => {
                Err(DataError::Truncated { path: path.to_owned(), bytes, record: TOKEN })
            }
            _ => Ok((Self::NanoGpt, bytes / TOKEN as u64)),
        }
    }
}

/// The first number of llm.c's files for Llama 3.
const MAGIC_32_BIT: i32 = 20_240_801;

/// The bytes at the start of a file that tell its layout.
pub(super) const LOOK: usize = 3 * 4;
