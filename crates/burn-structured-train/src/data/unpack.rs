//! Unpacking a downloaded archive so that the result is either complete or absent: everything happens in a temporary
//! folder beside the final one, and a rename puts it in place.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::DataError;

/// Removes a file or folder when dropped; what is not there is no concern.
pub(super) struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the next run starts by clearing the same path.
        let _ = if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}

/// Unpacks the gzip-compressed tar file `archive` and moves its top-level `folder` to `target`.
///
/// # Errors
///
/// [`DataError`] if the archive is damaged, has an entry that is not a plain file or folder below its own root, lacks
/// `folder`, or if writing fails. `target` is then untouched.
pub(super) fn unpack(archive: &Path, folder: &str, target: &Path) -> Result<(), DataError> {
    let scratch = Scratch(target.with_extension("unpacking"));
    let inside = &scratch.0;
    match fs::remove_dir_all(inside) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(DataError::io("clear", inside, source)),
        _ => fs::create_dir_all(inside).map_err(|source| DataError::io("create", inside, source))?,
    }
    extract(archive, inside)?;
    let unpacked = inside.join(folder);
    if !unpacked.is_dir() {
        return Err(DataError::NotADataset {
            path: archive.to_owned(),
            wanted: format!("the folder {folder}"),
            hint: "the archive is of another dataset".to_owned(),
        });
    }
    fs::rename(&unpacked, target).map_err(|source| DataError::io("create", target, source))
}

fn extract(archive: &Path, into: &Path) -> Result<(), DataError> {
    let reading = |source| DataError::io("unpack", archive, source);
    let file = File::open(archive).map_err(reading)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    tar.set_preserve_permissions(false);
    for entry in tar.entries().map_err(reading)? {
        let mut entry = entry.map_err(reading)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let plain = kind.is_file() || kind.is_dir();
        // `unpack_in` answers `false` for a path that would leave the folder.
        if !plain || !entry.unpack_in(into).map_err(|source| DataError::io("write", &into.join(&name), source))? {
            return Err(DataError::UnsafeArchive { path: archive.to_owned(), entry: name });
        }
    }
    // The tar ends before the gzip stream does; reading the rest makes the decoder check its checksum.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(reading)?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    /// A `.tar.gz` with the given paths and contents; the paths are written unchecked.
    pub(crate) fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *bytes).expect("in memory");
        }
        tar.into_inner().and_then(GzEncoder::finish).expect("in memory")
    }

    fn attempt(bytes: &[u8]) -> (tempfile::TempDir, Result<(), DataError>) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let archive = dir.path().join("a.tar.gz");
        fs::write(&archive, bytes).expect("temporary file");
        let outcome = unpack(&archive, "inner", &dir.path().join("target"));
        (dir, outcome)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("temporary folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_wanted_folder_is_moved_into_place_and_nothing_else_stays() {
        let (dir, outcome) = attempt(&tar_gz(&[("inner/x.bin", b"data"), ("other.txt", b"noise")]));
        outcome.expect("valid archive");
        assert_eq!(fs::read(dir.path().join("target/x.bin")).expect("unpacked"), b"data");
        assert_eq!(names(dir.path()), ["a.tar.gz", "target"]);
    }

    #[test]
    fn an_entry_that_climbs_out_is_refused() {
        let (dir, outcome) = attempt(&tar_gz(&[("inner/x.bin", b"data"), ("../escaped", b"evil")]));
        let message = outcome.expect_err("unsafe archive").to_string();
        assert!(message.contains("../escaped"), "{message}");
        assert_eq!(names(dir.path()), ["a.tar.gz"]);
    }

    #[test]
    fn a_damaged_archive_leaves_nothing_behind() {
        let bytes = tar_gz(&[("inner/x.bin", &[7; 4000])]);
        for broken in [&bytes[..bytes.len() - 9], &bytes[..20], b"no gzip at all"] {
            let (dir, outcome) = attempt(broken);
            assert!(matches!(outcome, Err(DataError::Io { .. })), "{outcome:?}");
            assert_eq!(names(dir.path()), ["a.tar.gz"]);
        }
    }

    #[test]
    fn an_archive_of_something_else_is_refused() {
        let (_dir, outcome) = attempt(&tar_gz(&[("elsewhere/x.bin", b"data")]));
        assert!(matches!(outcome, Err(DataError::NotADataset { .. })), "{outcome:?}");
    }
}
