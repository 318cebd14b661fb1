//! CIFAR from a folder, from the cache, or from its authors' server.
//!
//! A download is limited in size, checked against the published checksum, and appears in the cache complete or not at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn_structured_checkpoint::files::try_lock;
use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};

use super::unpack::unpack;
use super::{CifarKind, DataError, cifar};
use crate::files;

/// The authors' server.
const OFFICIAL: &str = "https://www.cs.toronto.edu/~kriz";
/// How long the name service, and then the server, may take to answer: without internet it would be minutes otherwise.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may stay silent. The transfer as a whole has no limit, so slow links work.
const SILENCE: Duration = Duration::from_secs(30);
/// More than either archive (170 MB) and than its contents (184 MB) has.
const MAX_BYTES: u64 = 256 << 20;

/// A dataset archive on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The address of the `.tar.gz` file.
    pub(crate) url: String,
    /// The MD5 checksum of the file, in lower-case hexadecimal.
    pub(crate) md5: String,
    /// The most bytes that the file may have, and that its contents may have together.
    pub(crate) max_bytes: u64,
}

impl Archive {
    /// The archive on its authors' server.
    pub(crate) fn official(kind: CifarKind) -> Self {
        Self::mirrored(kind, OFFICIAL)
    }

    /// The same archive below another address; the checksum stays the official one.
    pub(crate) fn mirrored(kind: CifarKind, base_url: &str) -> Self {
        let md5 = match kind {
            CifarKind::Cifar10 => "c32a1d4ab5d03f1284b67883e8d87530",
            CifarKind::Cifar100 => "03b5dce01913d631647c71ecec9e9cb8",
        };
        Self {
            url: format!("{}/{}", base_url.trim_end_matches('/'), file_name(kind)),
            md5: md5.to_owned(),
            max_bytes: MAX_BYTES,
        }
    }
}

fn file_name(kind: CifarKind) -> &'static str {
    match kind {
        CifarKind::Cifar10 => "cifar-10-binary.tar.gz",
        CifarKind::Cifar100 => "cifar-100-binary.tar.gz",
    }
}

/// The folder where downloaded datasets are kept, e.g. `~/.cache/burn-structured`.
///
/// # Errors
///
/// [`DataError::NoCacheFolder`] if the platform names none.
pub fn cache_folder() -> Result<PathBuf, DataError> {
    dirs::cache_dir().map(|dir| dir.join("burn-structured")).ok_or(DataError::NoCacheFolder)
}

/// The folder with the `.bin` files, for [`cifar::load`]: `data_dir` if given, else the cache, else a fresh download of
/// the official archive (about 170 MB, with a progress bar on a terminal's standard error).
///
/// # Errors
///
/// [`DataError`]; after those of [`DataError::is_unavailable`] the synthetic set can stand in. A `data_dir` without the data
/// is an error, never a reason to look elsewhere.
pub fn locate(kind: CifarKind, data_dir: Option<&Path>, allow_download: bool) -> Result<PathBuf, DataError> {
    match data_dir {
        Some(dir) => cifar::find(dir, kind),
        None => locate_cached(kind, &cache_folder()?, allow_download.then(|| Archive::official(kind)).as_ref()),
    }
}

/// Like [`locate`], with the cache folder and the archive to download (`None`: do not download) of the caller's choice.
///
/// # Errors
///
/// As [`locate`].
pub(crate) fn locate_cached(kind: CifarKind, cache: &Path, archive: Option<&Archive>) -> Result<PathBuf, DataError> {
    let target = cache.join(kind.folder());
    if !target.is_dir() {
        match archive {
            Some(archive) => fetch(kind, cache, archive, &target)?,
            None => return Err(DataError::NotCached { path: target }),
        }
    }
    cifar::find(&target, kind).map_err(|error| match error {
        DataError::NotADataset { path, wanted, .. } => {
            DataError::NotADataset { path, wanted, hint: "delete the folder to download it again".to_owned() }
        }
        other => other,
    })
}

/// Downloads, verifies and unpacks `archive` to `target`, which then appears at once and complete.
fn fetch(kind: CifarKind, cache: &Path, archive: &Archive, target: &Path) -> Result<(), DataError> {
    fs::create_dir_all(cache).map_err(|source| DataError::io("create", cache, source))?;
    let name = file_name(kind);
    let lock = cache.join(format!("{name}.lock"));
    let _lock = wait_for(&lock).map_err(|source| DataError::io("lock", &lock, source))?;
    if target.is_dir() {
        return Ok(());
    }
    files::remove_scratch_files(cache, |scratch| scratch.starts_with(name))
        .map_err(|source| DataError::io("clear", cache, source))?;
    let scratch = tempfile::Builder::new().prefix(name).suffix(".tmp").tempdir_in(cache);
    let scratch = scratch.map_err(|source| DataError::io("create", cache, source))?;
    let part = scratch.path().join(name);
    let found = stream(archive, &part)?;
    if found != archive.md5 {
        return Err(DataError::Checksum { url: archive.url.clone(), expected: archive.md5.clone(), found });
    }
    unpack(&part, kind.folder(), archive.max_bytes, target)
}

/// Takes the lock that keeps two processes from the same download; it is released with the file.
fn wait_for(path: &Path) -> std::io::Result<File> {
    if let Some(lock) = try_lock(path)? {
        return Ok(lock);
    }
    let waiting = ProgressBar::new_spinner().with_message("waiting for another process to finish the download");
    waiting.enable_steady_tick(Duration::from_millis(200));
    let lock = File::options().write(true).open(path)?;
    lock.lock()?;
    waiting.finish_and_clear();
    Ok(lock)
}

/// Writes what the server sends to `part` and returns the MD5 checksum of the bytes in hexadecimal.
fn stream(archive: &Archive, part: &Path) -> Result<String, DataError> {
    let url = &archive.url;
    let failed = |reason: String| DataError::Download { url: url.clone(), reason };
    let config = ureq::Agent::config_builder()
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        // The checksum is of the archive's own bytes, so no encoding may be wrapped around them.
        .accept_encoding("identity")
        .user_agent(concat!("burn-structured/", env!("CARGO_PKG_VERSION")))
        .build();
    let response = ureq::Agent::new_with_config(config).get(url).call().map_err(|error| failed(error.to_string()))?;
    let body = response.into_body();
    let total = body.content_length();
    let too_large = || failed(format!("it is larger than the {} bytes allowed", archive.max_bytes));
    if total.is_some_and(|total| total > archive.max_bytes) {
        return Err(too_large());
    }
    let bar = progress(url, total);
    let mut reader = body.into_reader();
    let mut file = File::create(part).map_err(|source| DataError::io("create", part, source))?;
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(|error| failed(format!("the connection broke after {received} bytes ({error})")))?;
        if count == 0 {
            break;
        }
        received += count as u64;
        if received > archive.max_bytes {
            return Err(too_large());
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(|source| DataError::io("write", part, source))?;
        bar.set_position(received);
    }
    if let Some(total) = total.filter(|&total| total != received) {
        return Err(failed(format!("the connection ended after {received} of {total} bytes")));
    }
    bar.finish_and_clear();
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bar with the remaining time if the size is known, else a count of bytes; indicatif hides it without a terminal.
fn progress(url: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "downloading {msg} [{bar:30}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)",
        ),
        None => (ProgressBar::new_spinner(), "downloading {msg} {spinner} {bytes} ({bytes_per_sec})"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(url.rsplit('/').next().unwrap_or(url).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::unpack::tests::tar_gz;
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    /// Answers one request with `response` as it stands and returns the address to ask.
    fn serve(response: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            let request = BufReader::new(stream.try_clone().expect("a socket"));
            assert!(request.lines().any(|line| line.is_ok_and(|line| line.is_empty())), "the request has an end");
            stream.write_all(&response).expect("the client listens");
        });
        format!("http://{address}")
    }

    fn ok(body: &[u8], announced: usize) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nContent-Encoding: x-gzip\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn archive_bytes() -> Vec<u8> {
        let record = [1; 3073];
        let folder = CifarKind::Cifar10.folder();
        tar_gz(&[(&format!("{folder}/data_batch_1.bin"), &record), (&format!("{folder}/test_batch.bin"), &record)])
    }

    fn archive(base_url: &str, bytes: &[u8]) -> Archive {
        let md5 = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Archive { md5, ..Archive::mirrored(CifarKind::Cifar10, base_url) }
    }

    fn attempt(response: Vec<u8>, expected: &[u8]) -> (tempfile::TempDir, Result<PathBuf, DataError>) {
        let cache = tempfile::tempdir().expect("temporary folder");
        let archive = archive(&serve(response), expected);
        let outcome = locate_cached(CifarKind::Cifar10, &cache.path().join("deep"), Some(&archive));
        (cache, outcome)
    }

    fn only_the_lock_is_left(cache: &tempfile::TempDir) -> bool {
        let mut entries = fs::read_dir(cache.path().join("deep")).expect("the cache folder");
        entries.all(|entry| entry.expect("entry").path().extension().is_some_and(|extension| extension == "lock"))
    }

    #[test]
    fn download_is_unpacked_once_and_then_cached() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes, bytes.len()), &bytes);
        let folder = outcome.expect("a good download");
        assert_eq!(cifar::load(&folder, CifarKind::Cifar10).expect("valid set").train.labels(), [1]);
        let again = locate_cached(CifarKind::Cifar10, &cache.path().join("deep"), None);
        assert_eq!(again.expect("cached"), folder);
        let entries = fs::read_dir(cache.path().join("deep")).expect("the cache folder").count();
        assert_eq!(entries, 2, "the lock and the images");
    }

    #[test]
    fn wrong_checksum_unpacks_nothing() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes, bytes.len()), b"something else");
        let error = outcome.expect_err("wrong checksum");
        assert!(matches!(error, DataError::Checksum { .. }) && error.is_unavailable(), "{error}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn download_stops_at_its_size_limit() {
        let endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        for response in [ok(&[7; 4000], 4000), [&endless[..], &[7; 4000]].concat()] {
            let cache = tempfile::tempdir().expect("temporary folder");
            let archive = Archive { max_bytes: 3000, ..archive(&serve(response), &[7; 4000]) };
            let outcome = locate_cached(CifarKind::Cifar10, &cache.path().join("deep"), Some(&archive));
            let message = outcome.expect_err("too large").to_string();
            assert!(message.contains("larger than the 3000 bytes allowed"), "{message}");
            assert!(only_the_lock_is_left(&cache));
        }
    }

    #[test]
    fn contents_beyond_the_limit_are_not_unpacked() {
        let bytes = tar_gz(&[("cifar-10-batches-bin/data_batch_1.bin", &[0; 1 << 20])]);
        assert!(bytes.len() < 1 << 14, "zeros compress well");
        let cache = tempfile::tempdir().expect("temporary folder");
        let archive = Archive { max_bytes: 1 << 14, ..archive(&serve(ok(&bytes, bytes.len())), &bytes) };
        let outcome = locate_cached(CifarKind::Cifar10, &cache.path().join("deep"), Some(&archive));
        assert!(outcome.expect_err("too large").to_string().contains("16384 bytes"));
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn scratch_files_of_a_killed_download_are_removed() {
        let bytes = archive_bytes();
        let cache = tempfile::tempdir().expect("temporary folder");
        let (ours, other) = ("cifar-10-binary.tar.gzKILLED.tmp", "cifar-100-binary.tar.gzRUNS.tmp");
        for name in [ours, other] {
            fs::create_dir(cache.path().join(name)).expect("temporary folder");
        }
        let archive = archive(&serve(ok(&bytes, bytes.len())), &bytes);
        locate_cached(CifarKind::Cifar10, cache.path(), Some(&archive)).expect("a good download");
        assert!(!cache.path().join(ours).exists() && cache.path().join(other).exists());
    }

    #[test]
    fn truncated_download_leaves_nothing_behind() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes[..50], bytes.len()), &bytes);
        let error = outcome.expect_err("truncated body");
        assert!(matches!(error, DataError::Download { .. }) && error.to_string().contains("50"), "{error}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn missing_file_is_reported_with_its_address() {
        let (cache, outcome) = attempt(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), b"");
        let message = outcome.expect_err("404").to_string();
        assert!(message.contains("404") && message.contains("/cifar-10-binary.tar.gz"), "{message}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn unreachable_server_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let cache = tempfile::tempdir().expect("temporary folder");
        let outcome = locate_cached(CifarKind::Cifar10, cache.path(), Some(&archive(&base_url, b"")));
        assert!(outcome.expect_err("nobody listens").is_unavailable());
    }

    #[test]
    fn two_processes_share_one_download() {
        let bytes = archive_bytes();
        let cache = tempfile::tempdir().expect("temporary folder");
        let archive = archive(&serve(ok(&bytes, bytes.len())), &bytes);
        thread::scope(|scope| {
            let both =
                [(), ()].map(|()| scope.spawn(|| locate_cached(CifarKind::Cifar10, cache.path(), Some(&archive))));
            for one in both {
                one.join().expect("no panic").expect("the server answers only once");
            }
        });
    }

    #[test]
    fn offline_error_names_the_cache_folder() {
        let cache = tempfile::tempdir().expect("temporary folder");
        let error = locate_cached(CifarKind::Cifar100, cache.path(), None).expect_err("empty cache");
        assert!(error.to_string().contains("cifar-100-binary") && error.is_unavailable(), "{error}");
    }

    #[test]
    fn data_dir_never_falls_back_to_the_cache() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let error = locate(CifarKind::Cifar10, Some(dir.path()), true).expect_err("an empty folder");
        assert!(!error.is_unavailable(), "{error}");
        cifar::tests::write_cifar10(dir.path());
        assert_eq!(locate(CifarKind::Cifar10, Some(dir.path()), false).expect("valid set"), dir.path());
    }

    #[test]
    fn incomplete_cache_says_how_to_recover() {
        let cache = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(cache.path().join("cifar-10-batches-bin")).expect("temporary folder");
        let error = locate_cached(CifarKind::Cifar10, cache.path(), None).expect_err("an empty folder");
        assert!(error.to_string().contains("delete the folder"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_is_reported() {
        let archive = archive(&serve(ok(b"data", 4)), b"data");
        let error = stream(&archive, Path::new("/dev/full")).expect_err("no space");
        assert!(matches!(error, DataError::DiskFull { .. }), "{error}");
    }

    #[test]
    fn official_address_can_be_replaced() {
        assert_eq!(
            Archive::official(CifarKind::Cifar100).url,
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
        );
        assert_eq!(Archive::mirrored(CifarKind::Cifar10, "http://h/x/").url, "http://h/x/cifar-10-binary.tar.gz");
    }
}
