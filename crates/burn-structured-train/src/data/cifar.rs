//! CIFAR-10 and CIFAR-100 in their official binary layout, checked record by record.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::{DataError, ImageSet, Images, Normalization};

/// Rows and columns of an image.
const SIDE: usize = 32;
/// Bytes of an image: the red, the green and the blue plane, row by row.
const PIXELS: usize = 3 * SIDE * SIDE;
/// Coarse classes of CIFAR-100; only used to recognise foreign files.
const COARSE_CLASSES: usize = 20;

/// The most bytes that a file of class names may have; the official ones have less than 1,000.
const MAX_NAMES: u64 = 1 << 16;

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Which of the two CIFAR datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// 10 classes, 50,000 training and 10,000 test images.
    Cifar10,
    /// 100 classes, 50,000 training and 10,000 test images.
    Cifar100,
}

impl CifarKind {
    /// `cifar10` or `cifar100`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The number of classes.
    pub fn num_classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    /// The folder the official archive unpacks to.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar-10-batches-bin",
            Self::Cifar100 => "cifar-100-binary",
        }
    }

    /// Training files; the set may be shortened to fewer of them, but not to none.
    fn train_files(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 => {
                &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]
            }
            Self::Cifar100 => &["train.bin"],
        }
    }

    fn test_file(self) -> &'static str {
        match self {
            Self::Cifar10 => "test_batch.bin",
            Self::Cifar100 => "test.bin",
        }
    }

    /// Records of an official file, training or test; CIFAR-10's have all the same number.
    fn max_records(self) -> u64 {
        match self {
            Self::Cifar10 => 10_000,
            Self::Cifar100 => 50_000,
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            Self::Cifar10 => "batches.meta.txt",
            Self::Cifar100 => "fine_label_names.txt",
        }
    }

    /// Bytes before the pixels of a record, the last of which is the label.
    fn label_bytes(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    fn normalization(self) -> Normalization {
        match self {
            Self::Cifar10 => Normalization::cifar10(),
            Self::Cifar100 => Normalization::cifar100(),
        }
    }
}

/// The folder with the `.bin` files: `dir` itself or the official folder below it.
///
/// # Errors
///
/// [`DataError::NotADataset`] if neither holds a training and a test file.
pub fn find(dir: &Path, kind: CifarKind) -> Result<PathBuf, DataError> {
    let complete = |folder: &PathBuf| {
        folder.join(kind.test_file()).is_file() && kind.train_files().iter().any(|file| folder.join(file).is_file())
    };
    [dir.to_owned(), dir.join(kind.folder())].into_iter().find(complete).ok_or_else(|| DataError::NotADataset {
        path: dir.to_owned(),
        wanted: format!("{} and {} (nor does a {} below it)", kind.train_files()[0], kind.test_file(), kind.folder()),
        hint: format!("unpack the *binary* version of {} there", kind.name()),
    })
}

/// Reads the dataset from `dir`, which is the folder with the `.bin` files or its parent.
///
/// A shortened set is fine: fewer records in a file, or some of CIFAR-10's training files missing.
///
/// # Errors
///
/// [`DataError`] naming the file if one is missing, unreadable, truncated, longer than the official one, or has a label out of
/// range.
pub fn load(dir: &Path, kind: CifarKind) -> Result<ImageSet, DataError> {
    let dir = find(dir, kind)?;
    let train: Vec<PathBuf> =
        kind.train_files().iter().map(|file| dir.join(file)).filter(|file| file.is_file()).collect();
    Ok(ImageSet {
        name: kind.name().to_owned(),
        classes: class_names(&dir.join(kind.names_file()), kind)?,
        channels: 3,
        height: SIDE,
        width: SIDE,
        train: read_files(&train, kind)?,
        test: read_files(&[dir.join(kind.test_file())], kind)?,
        normalization: kind.normalization(),
        synthetic: false,
    })
}

fn read_files(files: &[PathBuf], kind: CifarKind) -> Result<Images, DataError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        read_file(file, kind, &mut pixels, &mut labels)?;
    }
    Ok(Images::new(pixels, labels, PIXELS))
}

/// Appends the records of one file, stopping at the first that cannot belong to the dataset.
fn read_file(path: &Path, kind: CifarKind, pixels: &mut Vec<u8>, labels: &mut Vec<usize>) -> Result<(), DataError> {
    let io = |source| DataError::io("read", path, source);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let record = kind.label_bytes() + PIXELS;
    if bytes == 0 || !bytes.is_multiple_of(record as u64) {
        return Err(DataError::Truncated { path: path.to_owned(), bytes, record });
    }
    if bytes / record as u64 > kind.max_records() {
        return Err(DataError::TooLarge { path: path.to_owned(), limit: format!("{} records", kind.max_records()) });
    }
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut buffer = vec![0; record];
    for index in 0..(bytes / record as u64) as usize {
        reader.read_exact(&mut buffer).map_err(io)?;
        let (head, image) = buffer.split_at(kind.label_bytes());
        labels.push(check_label(head, kind).map_err(|(label, classes)| DataError::Label {
            path: path.to_owned(),
            record: index,
            label,
            classes,
        })?);
        pixels.extend_from_slice(image);
    }
    Ok(())
}

/// The class of a record, or the offending label and the number of valid ones.
fn check_label(head: &[u8], kind: CifarKind) -> Result<usize, (usize, usize)> {
    let within = |label: u8, classes| {
        let label = usize::from(label);
        if label < classes { Ok(label) } else { Err((label, classes)) }
    };
    match *head {
        [coarse, fine] => within(coarse, COARSE_CLASSES).and_then(|_| within(fine, kind.num_classes())),
        [label, ..] => within(label, kind.num_classes()),
        [] => Err((0, 0)),
    }
}

fn class_names(path: &Path, kind: CifarKind) -> Result<Vec<String>, DataError> {
    let classes = kind.num_classes();
    if !path.is_file() {
        return Ok(match kind {
            CifarKind::Cifar10 => CIFAR10_CLASSES.map(str::to_owned).to_vec(),
            CifarKind::Cifar100 => (0..classes).map(|class| format!("class {class}")).collect(),
        });
    }
    let io = |source| DataError::io("read", path, source);
    let mut text = String::new();
    File::open(path).map_err(io)?.take(MAX_NAMES).read_to_string(&mut text).map_err(io)?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() != classes {
        return Err(DataError::ClassNames { path: path.to_owned(), found: names.len(), classes });
    }
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    /// A record whose pixels all hold `fill`.
    fn record(head: &[u8], fill: u8) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.resize(head.len() + PIXELS, fill);
        bytes
    }

    /// A minimal CIFAR-10 folder: three training images in two files, one test image.
    pub(crate) fn write_cifar10(dir: &Path) {
        fs::create_dir_all(dir).expect("temporary folder");
        let write = |name: &str, bytes: Vec<u8>| fs::write(dir.join(name), bytes).expect("temporary file");
        write("data_batch_1.bin", [record(&[3], 10), record(&[0], 20)].concat());
        write("data_batch_4.bin", record(&[9], 30));
        write("test_batch.bin", record(&[5], 40));
    }

    fn written() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        write_cifar10(dir.path());
        dir
    }

    fn failure(dir: &Path, kind: CifarKind) -> DataError {
        load(dir, kind).expect_err("the set is broken")
    }

    #[test]
    fn shortened_set_loads_in_file_order() {
        let dir = written();
        let set = load(dir.path(), CifarKind::Cifar10).expect("valid set");
        assert_eq!(set.train.labels(), [3, 0, 9]);
        assert_eq!(set.test.labels(), [5]);
        assert_eq!((set.train.pixels()[0], set.train.pixels()[2 * PIXELS], set.test.pixels()[0]), (10, 30, 40));
        assert_eq!((set.name.as_str(), set.classes[9].as_str(), set.synthetic), ("cifar10", "truck", false));
    }

    #[test]
    fn parent_folder_loads() {
        let dir = tempfile::tempdir().expect("temporary folder");
        write_cifar10(&dir.path().join("cifar-10-batches-bin"));
        assert_eq!(load(dir.path(), CifarKind::Cifar10).expect("valid set").train.len(), 3);
    }

    #[test]
    fn cifar100_uses_the_fine_label() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join("train.bin"), record(&[19, 99], 1)).expect("temporary file");
        fs::write(dir.path().join("test.bin"), record(&[0, 42], 2)).expect("temporary file");
        let set = load(dir.path(), CifarKind::Cifar100).expect("valid set");
        assert_eq!((set.train.labels(), set.test.labels()), (&[99][..], &[42][..]));
        assert_eq!((set.classes.len(), set.classes[7].as_str()), (100, "class 7"));
    }

    #[test]
    fn truncated_file_is_named_with_its_record_size() {
        let dir = written();
        let path = dir.path().join("data_batch_4.bin");
        fs::write(&path, &record(&[9], 30)[..3000]).expect("temporary file");
        let message = failure(dir.path(), CifarKind::Cifar10).to_string();
        assert!(message.contains("data_batch_4.bin") && message.contains("3073"), "{message}");
        fs::write(&path, []).expect("temporary file");
        assert!(matches!(failure(dir.path(), CifarKind::Cifar10), DataError::Truncated { bytes: 0, .. }));
    }

    #[test]
    fn file_beyond_the_official_size_is_an_error() {
        let dir = written();
        let file = File::create(dir.path().join("test_batch.bin")).expect("temporary file");
        // Sparse: it takes no room on the disk.
        file.set_len(3073 * 10_001).expect("temporary file");
        let message = failure(dir.path(), CifarKind::Cifar10).to_string();
        assert!(message.contains("test_batch.bin has more than 10000 records"), "{message}");
    }

    #[test]
    fn label_out_of_range_names_file_and_record() {
        let dir = written();
        fs::write(dir.path().join("test_batch.bin"), [record(&[1], 0), record(&[10], 0)].concat()).expect("file");
        let message = failure(dir.path(), CifarKind::Cifar10).to_string();
        assert!(message.contains("test_batch.bin: record 1 has label 10, but there are 10 classes"), "{message}");
    }

    #[test]
    fn coarse_label_out_of_range_is_an_error() {
        assert_eq!(check_label(&[20, 5], CifarKind::Cifar100), Err((20, 20)));
        assert_eq!(check_label(&[5, 100], CifarKind::Cifar100), Err((100, 100)));
    }

    #[test]
    fn folder_without_the_files_says_what_belongs_there() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let message = failure(dir.path(), CifarKind::Cifar10).to_string();
        assert!(message.contains("data_batch_1.bin") && message.contains("binary"), "{message}");
        let message = failure(&dir.path().join("nowhere"), CifarKind::Cifar100).to_string();
        assert!(message.contains("nowhere") && message.contains("cifar-100-binary"), "{message}");
    }

    #[test]
    fn names_file_must_be_complete() {
        let dir = written();
        let path = dir.path().join("batches.meta.txt");
        fs::write(&path, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").expect("temporary file");
        assert_eq!(load(dir.path(), CifarKind::Cifar10).expect("valid set").classes[9], "j");
        fs::write(&path, "a\nb\n").expect("temporary file");
        assert!(matches!(failure(dir.path(), CifarKind::Cifar10), DataError::ClassNames { found: 2, .. }));
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a skipped test must say so")]
    fn real_cifar10_is_complete_and_balanced() {
        let Some(dir) = std::env::var_os("BURN_STRUCTURED_CIFAR10") else {
            eprintln!("skipped: set BURN_STRUCTURED_CIFAR10 to a folder with the CIFAR-10 binary files");
            return;
        };
        let set = load(Path::new(&dir), CifarKind::Cifar10).expect("real data");
        assert_eq!(set.train.len(), 5 * set.test.len());
        for split in [&set.train, &set.test] {
            let per_class = (0..10).map(|class| split.labels().iter().filter(|&&label| label == class).count());
            assert!(per_class.into_iter().all(|count| count == split.len() / 10));
        }
        let measured = Normalization::measure(set.train.pixels(), 3, SIDE * SIDE);
        for (known, measured) in set.normalization.mean.iter().zip(&measured.mean) {
            assert!((known - measured).abs() < 0.02, "{known} {measured}");
        }
    }
}
