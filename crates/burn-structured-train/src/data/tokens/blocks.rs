//! Reading UTF-8 in blocks of bounded size.

use crate::data::DataError;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The bytes that are read at once.
pub(super) const BLOCK: usize = 1 << 20;

/// Where bytes are read from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File(PathBuf),
    Memory { name: Arc<str>, bytes: Arc<[u8]> },
}

impl Origin {
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory { name, .. } => name.to_string(),
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> Result<u64, DataError> {
        match self {
            Self::File(path) => match path.metadata() {
                Ok(metadata) => Ok(metadata.len()),
                Err(source) => Err(DataError::io("read", path, source)),
            },
            Self::Memory { bytes, .. } => Ok(bytes.len() as u64),
        }
    }

    fn open(&self, start: u64) -> io::Result<Box<dyn Read>> {
        match self {
            Self::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                Ok(Box::new(file))
            }
            Self::Memory { bytes, .. } => {
                let mut bytes = Cursor::new(bytes.clone());
                bytes.set_position(start);
                Ok(Box::new(bytes))
            }
        }
    }
}

/// The text in a range of bytes, in blocks of whole characters.
pub(super) struct Blocks {
    origin: Origin,
    reader: Box<dyn Read>,
    size: usize,
    /// Bytes that are read, but not given out: the first ones of a character.
    buffer: Vec<u8>,
    /// Where in the file the buffer starts.
    position: u64,
    /// Bytes that are not read yet.
    left: u64,
}

impl Blocks {
    /// Blocks of at most `size` bytes and 3 more.
    pub fn new(origin: &Origin, bytes: Range<u64>, size: usize) -> Result<Self, DataError> {
        let reader = origin.open(bytes.start).map_err(|source| io_error(origin, source))?;
        let left = bytes.end - bytes.start;
        Ok(Self { origin: origin.clone(), reader, size, buffer: Vec::new(), position: bytes.start, left })
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    ///
    /// If reading fails, the file has become shorter, or the bytes are no UTF-8.
    pub fn next(&mut self) -> Result<Option<String>, DataError> {
        if self.left == 0 {
            return Ok(None);
        }
        let count = self.left.min(self.size as u64) as usize;
        let filled = self.buffer.len();
        self.buffer.resize(filled + count, 0);
        self.reader.read_exact(&mut self.buffer[filled..]).map_err(|source| io_error(&self.origin, source))?;
        self.left -= count as u64;
        let valid = match str::from_utf8(&self.buffer) {
            Ok(text) => text.len(),
            // The rest of the character is in the next block.
            Err(error) if error.error_len().is_none() && self.left > 0 => error.valid_up_to(),
            Err(error) => {
                let position = self.position + error.valid_up_to() as u64;
                return Err(DataError::NotText { name: self.origin.name(), position });
            }
        };
        let rest = self.buffer.split_off(valid);
        let block = std::mem::replace(&mut self.buffer, rest);
        self.position += valid as u64;
        Ok(Some(String::from_utf8(block).expect("checked above")))
    }

    /// Where the next block starts.
    pub fn position(&self) -> u64 {
        self.position
    }
}

fn io_error(origin: &Origin, source: io::Error) -> DataError {
    DataError::io("read", origin.name().as_ref(), source)
}
