//! Files that are complete or absent.

use burn_store::burn_pack::{AtomicFile, Error};
use std::io::Write;
use std::path::Path;

/// Replaces the file at `path`: written under a name of its own, synced, and then renamed.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let (scratch, mut file) = AtomicFile::create(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| Error::IoError(error.to_string()))?;
    scratch.commit()
}
