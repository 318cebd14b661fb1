//! Token files, memory-mapped.

use super::layout::{LOOK, TOKEN};
use super::{TokenLayout, source};
use crate::data::DataError;
use memmap2::{MmapOptions, MmapRaw};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;

/// A token file that is read where it lies, whatever its size.
///
/// # Hazards
///
/// The file must not be changed while it is open. If its content is, other tokens are read, or an error is reported where they
/// are not in the vocabulary. If it is cut shorter, reading the missing part ends the process (with SIGBUS on Unix), as for
/// every memory-mapped file. [`prepare`](super::prepare()) does neither: it replaces a file by another one, and the map
/// keeps the old one.
pub struct TokenFile {
    path: PathBuf,
    layout: TokenLayout,
    map: MmapRaw,
    tokens: usize,
}

impl TokenFile {
    /// Opens a file in either layout; one that starts with llm.c's number 20240520 is in that.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty or not a whole number of tokens, or has a header that does not fit its size.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref().to_owned();
        let reading = |source| DataError::io("read", &path, source);
        let file = File::open(&path).map_err(reading)?;
        let bytes = file.metadata().map_err(reading)?.len();
        if bytes == 0 {
            return Err(DataError::Truncated { path, bytes, record: TOKEN });
        }
        let map = MmapOptions::new().map_raw_read_only(&file).map_err(reading)?;
        let start = copy(&map, 0, LOOK.min(map.len()));
        let (layout, tokens) = TokenLayout::detect(&path, &start, map.len() as u64)?;
        Ok(Self { path, layout, map, tokens: tokens as usize })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its layout.
    pub fn layout(&self) -> TokenLayout {
        self.layout
    }

    /// Its number of tokens, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an empty file cannot be opened")]
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// The tokens at the positions of `range`.
    ///
    /// # Errors
    ///
    /// If a token is not below `vocab_size`.
    ///
    /// # Panics
    ///
    /// If the range ends behind the file.
    pub fn read(&self, range: Range<usize>, vocab_size: usize) -> Result<Vec<u32>, DataError> {
        let start = range.start;
        assert!(start <= range.end && range.end <= self.tokens, "tokens {range:?} of {}", self.tokens);
        let bytes = copy(&self.map, self.layout.header_len() + TOKEN * start, TOKEN * range.len());
        let tokens: Vec<u32> =
            bytes.chunks_exact(TOKEN).map(|token| u16::from_le_bytes([token[0], token[1]]).into()).collect();
        source::check(&tokens, vocab_size, start, || self.path.display().to_string())?;
        Ok(tokens)
    }
}

/// Copies `count` bytes of `map` from `start`.
fn copy(map: &MmapRaw, start: usize, count: usize) -> Vec<u8> {
    assert!(start + count <= map.len(), "bytes {start}..{} of {}", start + count, map.len());
    let mut bytes = vec![0; count];
    // SAFETY: The source is within the map, which lives as long as `map`; the destination has `count` bytes of its own. No
    // reference to mapped memory exists, so that a file that another process changes gives other bytes and nothing else; the
    // copy is not looked at before it is complete.
    unsafe { ptr::copy_nonoverlapping(map.as_ptr().add(start), bytes.as_mut_ptr(), count) };
    bytes
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFile({}, {} tokens)", self.path.display(), self.tokens)
    }
}
