//! The bytes of a file.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// Bytes that stay where they are.
#[derive(Debug)]
pub(crate) enum Source {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl Source {
    /// The file at `path`, mapped: a checkpoint may be larger than memory, and a tensor is read when its values are.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // An empty file cannot be mapped everywhere.
        if file.metadata()?.len() == 0 {
            return Ok(Self::Read(Vec::new()));
        }
        // SAFETY: the map is read-only, and lives as long as the slices that are taken from it. What remains is that nobody
        // changes the file meanwhile: whoever shortens it makes the next read of the lost pages end the process (SIGBUS), and
        // whoever overwrites it changes the values. Both take a writer that works in place. Everything in this project, the
        // `safetensors` libraries and downloaders replace a file by renaming another one, which leaves the mapped one as it
        // was. `burn-store` and the Python library map files on the same condition; `Checkpoint::open` documents it, and
        // `Checkpoint::read` reads in full where it cannot be met.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(map))
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}
