//! Unpacking a downloaded archive so that the result is either complete or absent.
//!
//! The files go to a scratch folder, are synced, and get their name by a rename.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use burn_structured_checkpoint::files::sync_folder;
use flate2::read::GzDecoder;

use super::DataError;

/// More files and folders than a dataset's archive has.
const MAX_ENTRIES: usize = 1000;

/// Unpacks the gzip-compressed tar file `archive`, of at most `max_bytes` when decompressed, and moves its top-level `folder`
/// to `target`.
///
/// # Errors
///
/// [`DataError`] if the archive is damaged or too large, has an entry that is not a plain file or folder below its own root,
/// lacks `folder`, or if writing fails. `target` is then untouched.
pub(super) fn unpack(archive: &Path, folder: &str, max_bytes: u64, target: &Path) -> Result<(), DataError> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let around = archive.parent().unwrap_or(parent);
    let scratch = tempfile::tempdir_in(around).map_err(|source| DataError::io("create", around, source))?;
    extract(archive, max_bytes, scratch.path())?;
    let unpacked = scratch.path().join(folder);
    if !unpacked.is_dir() {
        return Err(DataError::NotADataset {
            path: archive.to_owned(),
            wanted: format!("the folder {folder}"),
            hint: "the archive is of another dataset".to_owned(),
        });
    }
    sync_all(&unpacked).map_err(|source| DataError::io("write", &unpacked, source))?;
    fs::rename(&unpacked, target).map_err(|source| DataError::io("create", target, source))?;
    sync_folder(parent).map_err(|source| DataError::io("write", parent, source))
}

fn extract(archive: &Path, max_bytes: u64, into: &Path) -> Result<(), DataError> {
    let reading = |source| DataError::io("unpack", archive, source);
    let too_large = |limit| DataError::ArchiveTooLarge { path: archive.to_owned(), limit };
    let file = File::open(archive).map_err(reading)?;
    // One byte more than allowed, to tell the limit from the end.
    let mut limited = GzDecoder::new(BufReader::new(file)).take(max_bytes + 1);
    let unpacked = write_entries(&mut limited, archive, into);
    // The tar ends before the gzip stream does; reading the rest makes the decoder check its checksum.
    let rest = unpacked.and_then(|()| io::copy(&mut limited, &mut io::sink()).map_err(reading));
    match rest {
        _ if limited.limit() == 0 => Err(too_large(format!("{max_bytes} bytes"))),
        outcome => outcome.map(|_| ()),
    }
}

fn write_entries(tar: &mut impl Read, archive: &Path, into: &Path) -> Result<(), DataError> {
    let reading = |source| DataError::io("unpack", archive, source);
    let mut tar = tar::Archive::new(tar);
    tar.set_preserve_permissions(false);
    for (index, entry) in tar.entries().map_err(reading)?.enumerate() {
        if index == MAX_ENTRIES {
            return Err(DataError::ArchiveTooLarge {
                path: archive.to_owned(),
                limit: format!("{MAX_ENTRIES} entries"),
            });
        }
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
    Ok(())
}

/// Writes a folder and everything in it through to the disk.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { File::options().write(true).open(&path)?.sync_all()? }
    }
    sync_folder(folder)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    const MAX_BYTES: u64 = 1 << 20;

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
        let outcome = unpack(&archive, "inner", MAX_BYTES, &dir.path().join("target"));
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
    fn only_the_wanted_folder_stays() {
        let (dir, outcome) = attempt(&tar_gz(&[("inner/x.bin", b"data"), ("other.txt", b"noise")]));
        outcome.expect("valid archive");
        assert_eq!(fs::read(dir.path().join("target/x.bin")).expect("unpacked"), b"data");
        assert_eq!(names(dir.path()), ["a.tar.gz", "target"]);
    }

    #[test]
    fn entry_outside_the_folder_is_an_error() {
        let (dir, outcome) = attempt(&tar_gz(&[("inner/x.bin", b"data"), ("../escaped", b"evil")]));
        let message = outcome.expect_err("unsafe archive").to_string();
        assert!(message.contains("../escaped"), "{message}");
        assert_eq!(names(dir.path()), ["a.tar.gz"]);
    }

    #[test]
    fn damaged_archive_leaves_nothing_behind() {
        let bytes = tar_gz(&[("inner/x.bin", &[7; 4000])]);
        for broken in [&bytes[..bytes.len() - 9], &bytes[..20], b"no gzip at all"] {
            let (dir, outcome) = attempt(broken);
            assert!(matches!(outcome, Err(DataError::Io { .. })), "{outcome:?}");
            assert_eq!(names(dir.path()), ["a.tar.gz"]);
        }
    }

    #[test]
    fn archive_without_the_folder_is_an_error() {
        let (_dir, outcome) = attempt(&tar_gz(&[("elsewhere/x.bin", b"data")]));
        assert!(matches!(outcome, Err(DataError::NotADataset { .. })), "{outcome:?}");
    }

    fn is_too_large(bytes: &[u8], limit: &str) {
        let (dir, outcome) = attempt(bytes);
        let message = outcome.expect_err("too large").to_string();
        assert!(message.contains(limit), "{message}");
        assert_eq!(names(dir.path()), ["a.tar.gz"]);
    }

    #[test]
    fn contents_are_limited_in_bytes() {
        let (half, all) = (vec![0; (MAX_BYTES / 2) as usize], vec![0; MAX_BYTES as usize]);
        attempt(&tar_gz(&[("inner/x.bin", &half)])).1.expect("within the limit");
        is_too_large(&tar_gz(&[("inner/x.bin", &all)]), "1048576 bytes");
        is_too_large(&tar_gz(&[("inner/x.bin", &half), ("inner/y.bin", &half)]), "1048576 bytes");
        // Behind the end of the tar.
        let mut tail = GzEncoder::new(Vec::new(), Compression::fast());
        io::Write::write_all(&mut tail, &[[0; 1024].as_slice(), &all].concat()).expect("in memory");
        is_too_large(&tail.finish().expect("in memory"), "1048576 bytes");
    }

    #[test]
    fn contents_are_limited_in_number() {
        let names: Vec<String> = (0..=MAX_ENTRIES).map(|index| format!("inner/{index}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
        is_too_large(&tar_gz(&files), "1000 entries");
    }

    #[test]
    fn sparse_entry_is_an_error() {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..11].copy_from_slice(b"inner/x.bin");
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(0);
        // The size of the file, which is all hole.
        header.as_mut_bytes()[483..494].copy_from_slice(b"77777777777");
        header.set_cksum();
        tar.append(&header, &[][..]).expect("in memory");
        let (dir, outcome) = attempt(&tar.into_inner().and_then(GzEncoder::finish).expect("in memory"));
        assert!(outcome.is_err());
        assert_eq!(names(dir.path()), ["a.tar.gz"]);
    }
}
