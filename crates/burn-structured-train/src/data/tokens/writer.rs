//! Writing token files.

use super::layout::TOKEN;
use super::{TokenFile, TokenLayout, source};
use crate::data::DataError;
use crate::files;
use burn::store::burn_pack::{AtomicFile, Error};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// Writes a token file that is complete or absent: it gets its name by [`finish`](Self::finish), and an existing file of that
/// name stays as it is until then.
///
/// Only one process at a time may write a file of the same name: what a killed one left behind is removed.
pub struct TokenWriter {
    path: PathBuf,
    layout: TokenLayout,
    vocab_size: usize,
    scratch: AtomicFile,
    file: BufWriter<File>,
    tokens: u64,
}

impl TokenWriter {
    /// Starts a file.
    ///
    /// # Errors
    ///
    /// If the vocabulary does not fit the 16 bits of a token, or the file cannot be created.
    pub fn create(path: impl AsRef<Path>, layout: TokenLayout, vocab_size: usize) -> Result<Self, DataError> {
        let path = path.as_ref().to_owned();
        if vocab_size > 1 << (8 * TOKEN) {
            return Err(DataError::Setting {
                name: "vocabulary",
                value: vocab_size.to_string(),
                expected: "token files hold 16-bit numbers, so choose a tokenizer of at most 65536 tokens, or train from the text",
            });
        }
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let ours = |scratch: &str| scratch.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            files::remove_scratch_files(folder, ours).map_err(|source| DataError::io("write", &path, source))?;
        }
        let (scratch, file) = AtomicFile::create(&path).map_err(|source| writing(&path, source))?;
        let mut writer = Self { layout, vocab_size, scratch, file: BufWriter::new(file), tokens: 0, path };
        writer.write_bytes(&vec![0; layout.header_len()])?;
        Ok(writer)
    }

    /// Appends tokens.
    ///
    /// # Errors
    ///
    /// If a token is not in the vocabulary, the layout cannot hold so many, or the file cannot be written.
    pub fn write(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        source::check(tokens, self.vocab_size, self.tokens as usize, || self.path.display().to_string())?;
        self.tokens += tokens.len() as u64;
        if self.tokens > self.layout.max_tokens() {
            let problem = format!("cannot count more than {} tokens; use nanoGPT's layout", self.layout.max_tokens());
            return Err(DataError::TokenHeader { path: self.path.clone(), problem });
        }
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| (*token as u16).to_le_bytes()).collect();
        self.write_bytes(&bytes)
    }

    /// Gives the file its name, and opens it.
    ///
    /// # Errors
    ///
    /// If there is no token, or the file cannot be written.
    pub fn finish(self) -> Result<TokenFile, DataError> {
        let Self { path, layout, scratch, file, tokens, .. } = self;
        if tokens == 0 {
            return Err(DataError::TooFewTokens { name: path.display().to_string(), tokens: 0, needed: 1 });
        }
        let header = |mut file: File| {
            file.rewind()?;
            file.write_all(&layout.header(tokens))?;
            file.sync_all()
        };
        let flushed = file.into_inner().map_err(io::IntoInnerError::into_error);
        flushed.and_then(header).map_err(|source| DataError::io("write", &path, source))?;
        scratch.commit().map_err(|source| writing(&path, source))?;
        TokenFile::open(path)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|source| DataError::io("write", &self.path, source))
    }
}

fn writing(path: &Path, error: Error) -> DataError {
    DataError::io("write", path, io::Error::other(error.to_string()))
}
