//! Finding CIFAR on this machine, or fetching it once: an example should start with nothing but its own command line,
//! yet never take half a download for a dataset, and say at once when there is no connection.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};

use super::unpack::{Scratch, unpack};
use super::{CifarKind, DataError, cifar};

/// The authors' server.
const OFFICIAL: &str = "https://www.cs.toronto.edu/~kriz";
/// How long the name service, and then the server, may take to answer at all: without internet, minutes are wasted
/// otherwise.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may stay silent. The transfer as a whole has no limit, so slow links work.
const SILENCE: Duration = Duration::from_secs(30);

/// A dataset archive on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The address of the `.tar.gz` file.
    pub url: String,
    /// The MD5 checksum of the file, in lower-case hexadecimal.
    pub md5: String,
}

impl Archive {
    /// The archive on its authors' server.
    pub fn official(kind: CifarKind) -> Self {
        Self::mirrored(kind, OFFICIAL)
    }

    /// The same archive below another address; the checksum stays the official one.
    pub fn mirrored(kind: CifarKind, base_url: &str) -> Self {
        let md5 = match kind {
            CifarKind::Cifar10 => "c32a1d4ab5d03f1284b67883e8d87530",
            CifarKind::Cifar100 => "03b5dce01913d631647c71ecec9e9cb8",
        };
        Self { url: format!("{}/{}", base_url.trim_end_matches('/'), file_name(kind)), md5: md5.to_owned() }
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
/// [`DataError`]; see [`DataError::is_unavailable`] for those after which stand-in data is a fair answer. A `data_dir`
/// without the data is always an error of its own, never a reason to look elsewhere.
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
pub fn locate_cached(kind: CifarKind, cache: &Path, archive: Option<&Archive>) -> Result<PathBuf, DataError> {
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
    let lock = cache.join(format!("{}.lock", file_name(kind)));
    let lock = File::create(&lock).map_err(|source| DataError::io("create", &lock, source))?;
    wait_for(&lock);
    if target.is_dir() {
        return Ok(());
    }
    let part = Scratch(cache.join(format!("{}.part", file_name(kind))));
    let found = stream(&archive.url, &part.0)?;
    if found != archive.md5 {
        return Err(DataError::Checksum { url: archive.url.clone(), expected: archive.md5.clone(), found });
    }
    unpack(&part.0, kind.folder(), target)
}

/// Takes the lock that keeps two processes from writing the same download; it is released with the file.
///
/// On a file system without locks the download goes ahead: two at once then fail on the checksums, at worst.
fn wait_for(lock: &File) {
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        let waiting = ProgressBar::new_spinner().with_message("waiting for another process to finish the download");
        waiting.enable_steady_tick(Duration::from_millis(200));
        let _ = lock.lock();
        waiting.finish_and_clear();
    }
}

/// Writes what `url` serves to `part` and returns the MD5 checksum of the bytes in hexadecimal.
fn stream(url: &str, part: &Path) -> Result<String, DataError> {
    let failed = |reason: String| DataError::Download { url: url.to_owned(), reason };
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
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(|source| DataError::io("write", part, source))?;
        received += count as u64;
        bar.set_position(received);
    }
    if let Some(total) = total.filter(|&total| total != received) {
        return Err(failed(format!("the connection ended after {received} of {total} bytes")));
    }
    bar.finish_and_clear();
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bar with the remaining time if the size is known, else a running count; indicatif hides it off a terminal.
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
    fn a_download_is_unpacked_once_and_then_found_in_the_cache() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes, bytes.len()), &bytes);
        let folder = outcome.expect("a good download");
        assert_eq!(cifar::load(&folder, CifarKind::Cifar10).expect("valid set").train.labels(), [1]);
        let again = locate_cached(CifarKind::Cifar10, &cache.path().join("deep"), None);
        assert_eq!(again.expect("cached"), folder);
        assert!(!cache.path().join("deep/cifar-10-binary.tar.gz.part").exists());
    }

    #[test]
    fn a_wrong_checksum_unpacks_nothing() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes, bytes.len()), b"something else");
        let error = outcome.expect_err("wrong checksum");
        assert!(matches!(error, DataError::Checksum { .. }) && error.is_unavailable(), "{error}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn a_connection_that_ends_early_leaves_nothing_behind() {
        let bytes = archive_bytes();
        let (cache, outcome) = attempt(ok(&bytes[..50], bytes.len()), &bytes);
        let error = outcome.expect_err("truncated body");
        assert!(matches!(error, DataError::Download { .. }) && error.to_string().contains("50"), "{error}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn a_missing_file_on_the_server_is_reported_with_its_address() {
        let (cache, outcome) = attempt(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), b"");
        let message = outcome.expect_err("404").to_string();
        assert!(message.contains("404") && message.contains("/cifar-10-binary.tar.gz"), "{message}");
        assert!(only_the_lock_is_left(&cache));
    }

    #[test]
    fn an_unreachable_server_is_an_absence_and_not_a_fault() {
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
    fn without_permission_to_download_the_cache_folder_is_named() {
        let cache = tempfile::tempdir().expect("temporary folder");
        let error = locate_cached(CifarKind::Cifar100, cache.path(), None).expect_err("empty cache");
        assert!(error.to_string().contains("cifar-100-binary") && error.is_unavailable(), "{error}");
    }

    #[test]
    fn a_named_folder_works_or_fails_on_its_own() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let error = locate(CifarKind::Cifar10, Some(dir.path()), true).expect_err("an empty folder");
        assert!(!error.is_unavailable(), "{error}");
        cifar::tests::write_cifar10(dir.path());
        assert_eq!(locate(CifarKind::Cifar10, Some(dir.path()), false).expect("valid set"), dir.path());
    }

    #[test]
    fn a_gutted_cache_folder_says_how_to_recover() {
        let cache = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(cache.path().join("cifar-10-batches-bin")).expect("temporary folder");
        let error = locate_cached(CifarKind::Cifar10, cache.path(), None).expect_err("an empty folder");
        assert!(error.to_string().contains("delete the folder"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_reported_as_such() {
        let error = stream(&serve(ok(b"data", 4)), Path::new("/dev/full")).expect_err("no space");
        assert!(matches!(error, DataError::DiskFull { .. }), "{error}");
    }

    #[test]
    fn the_official_address_is_overridable() {
        assert_eq!(
            Archive::official(CifarKind::Cifar100).url,
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
        );
        assert_eq!(Archive::mirrored(CifarKind::Cifar10, "http://h/x/").url, "http://h/x/cifar-10-binary.tar.gz");
    }
}
