//! What can go wrong between a path or an address and a set of images or tokens.

use std::io;
use std::path::{Path, PathBuf};

use burn_structured_models::text::TextError;
use thiserror::Error;

/// Why a dataset cannot be found, read or batched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `create`, ...
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The disk (or the user's quota) is full.
    #[error("no space left while writing {}; free some space or choose another folder ({source})", path.display())]
    DiskFull {
        /// The file or folder being written.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A folder does not hold the dataset.
    #[error("{} does not hold {wanted}; {hint}", path.display())]
    NotADataset {
        /// The folder that was searched.
        path: PathBuf,
        /// What should have been there.
        wanted: String,
        /// How to get it there.
        hint: String,
    },
    /// No folder was given, the cache is empty and downloading is not allowed.
    #[error(
        "{} is not there and downloading is off; name a folder with the data or allow the download",
        path.display()
    )]
    NotCached {
        /// The cache folder that would hold the data.
        path: PathBuf,
    },
    /// The platform does not say where caches live.
    #[error("this machine has no cache folder (is HOME set?); name a folder with the data")]
    NoCacheFolder,
    /// A binary file is not a whole number of records, or has none.
    #[error(
        "{}: {bytes} bytes are not one or more whole records of {record} bytes; the file is truncated or of another \
         format, fetch it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The size of a record in bytes.
        record: usize,
    },
    /// A file has more in it than the dataset.
    #[error("{} has more than {limit}; it is damaged or of another format, fetch it again", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: String,
    },
    /// An archive has more in it than the dataset.
    #[error("{} unpacks to more than {limit}; nothing was kept", path.display())]
    ArchiveTooLarge {
        /// The archive.
        path: PathBuf,
        /// The most that is unpacked.
        limit: String,
    },
    /// A record carries a label the dataset does not have.
    #[error(
        "{}: record {record} has label {label}, but there are {classes} classes; the file is damaged or of another \
         dataset",
        path.display()
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The record's position in the file, from 0.
        record: usize,
        /// The label found.
        label: usize,
        /// The number of classes; valid labels are smaller.
        classes: usize,
    },
    /// A list of class names has the wrong length.
    #[error(
        "{} lists {found} class names instead of {classes}; restore the official file or delete it",
        path.display()
    )]
    ClassNames {
        /// The file of names.
        path: PathBuf,
        /// Names found.
        found: usize,
        /// Names expected.
        classes: usize,
    },
    /// A class folder has no image in it.
    #[error("{} has no image ({extensions}); add some or remove the folder", path.display())]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
        /// The accepted file extensions.
        extensions: String,
    },
    /// The test split has a class the training split lacks.
    #[error(
        "class folder {} has no counterpart under {}; every tested class must also be trained",
        path.display(), train.display()
    )]
    UnknownClass {
        /// The class folder of the test split.
        path: PathBuf,
        /// The training folder.
        train: PathBuf,
    },
    /// A file has an image's extension but does not decode.
    #[error("cannot decode the image {}: {source}; repair or remove the file", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's answer.
        source: image::ImageError,
    },
    /// The dataset's server could not be reached, or gave up.
    #[error("cannot download {url}: {reason}; check the connection, or name a folder that holds the data")]
    Download {
        /// The address.
        url: String,
        /// What the network or the server said.
        reason: String,
    },
    /// A finished download is not the expected file.
    #[error(
        "{url} arrived with MD5 {found} instead of {expected} and was thrown away; try again, or name a \
         folder that holds the data"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The published checksum, in hexadecimal.
        expected: String,
        /// The checksum of what arrived.
        found: String,
    },
    /// An archive holds something other than plain files below its own folder.
    #[error(
        "{} has the entry {entry:?}, which does not stay inside the folder it is unpacked to; nothing was kept",
        path.display()
    )]
    UnsafeArchive {
        /// The archive.
        path: PathBuf,
        /// The offending entry.
        entry: String,
    },
    /// A text without a character, or none at all.
    #[error("{name} is empty; name a file with text in it")]
    EmptyText {
        /// The file, or the name of the text.
        name: String,
    },
    /// A file of text has bytes that are no UTF-8.
    #[error(
        "{name} is no text: its bytes from position {position} are not UTF-8; name a text file, or convert it to UTF-8"
    )]
    NotText {
        /// The file.
        name: String,
        /// The first byte that is not UTF-8, from 0.
        position: u64,
    },
    /// A file of text is compressed.
    #[error("{} is compressed; unpack it first: {command} {}", path.display(), path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The program that unpacks it, with its options.
        command: &'static str,
    },
    /// A tokenizer cannot be used on a text.
    #[error("{name}: {source}")]
    Tokenize {
        /// The file, or the name of the text.
        name: String,
        /// The tokenizer's answer.
        source: TextError,
    },
    /// The header of a token file in llm.c's layout is wrong.
    #[error("{}: the header {problem}; write the file again", path.display())]
    TokenHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A token is not in the vocabulary.
    #[error(
        "{name}: token {token} at position {position} is not in the vocabulary of {vocab_size}; use the tokenizer that made \
         the tokens, and a model for it"
    )]
    Token {
        /// The file, or the name of the tokens.
        name: String,
        /// The token's position, from 0.
        position: usize,
        /// The token.
        token: u32,
        /// The number of tokens in the vocabulary; valid ones are smaller.
        vocab_size: usize,
    },
    /// There are too few tokens for one sequence.
    #[error("{name} has {tokens} tokens, but at least {needed} are needed; add text, or choose a shorter context")]
    TooFewTokens {
        /// The file, or the name of the tokens.
        name: String,
        /// Its number of tokens.
        tokens: usize,
        /// The tokens of the shortest usable source.
        needed: usize,
    },
    /// A number is outside its range.
    #[error("{name} = {value} is not usable; {expected}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The value given.
        value: String,
        /// The values that work.
        expected: &'static str,
    },
}

impl DataError {
    /// Wraps an I/O error with the path and the attempted action, telling a full disk from the rest.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the data is out of reach (no connection, no cache), so that the synthetic set can stand in.
    ///
    /// Every other error is about data that *is* there, and has to be shown.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Download { .. } | Self::Checksum { .. } | Self::NotCached { .. } | Self::NoCacheFolder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_an_error_of_its_own() {
        let path = Path::new("/x/y.part");
        let full = DataError::io("write", path, io::ErrorKind::StorageFull.into());
        assert!(matches!(full, DataError::DiskFull { .. }), "{full}");
        assert!(full.to_string().contains("/x/y.part"));
        let denied = DataError::io("write", path, io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().starts_with("cannot write /x/y.part"), "{denied}");
    }

    #[test]
    fn damaged_data_is_not_unavailable() {
        assert!(DataError::NoCacheFolder.is_unavailable());
        let broken = DataError::Truncated { path: "a.bin".into(), bytes: 5, record: 3073 };
        assert!(!broken.is_unavailable());
    }
}
