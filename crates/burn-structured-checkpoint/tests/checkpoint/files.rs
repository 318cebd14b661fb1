//! Writing, and reading back.

use crate::build::{counting, floats, of_tensors};
use burn_structured_checkpoint::{Checkpoint, CheckpointError, Dtype, TensorData, files, write};
use std::collections::BTreeMap;
use std::path::Path;

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_string(), "pt".to_string())])
}

#[test]
fn write_gives_the_bytes_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, reference) = (folder.path().join("ours"), folder.path().join("reference"));
    let half = TensorData { name: "z".into(), dtype: Dtype::F16, shape: vec![3], bytes: vec![1; 6].into() };
    let byte = TensorData { name: "a".into(), dtype: Dtype::U8, shape: vec![1], bytes: vec![2].into() };
    let odd = counting("name \"with\" ü and \\", &[2, 2]);
    let tensors = [byte, odd, half, counting("b", &[]), counting("empty", &[0, 3])];
    write(&ours, &tensors, &metadata()).unwrap();
    let views = tensors.iter().map(|tensor| {
        let view = safetensors::tensor::TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (tensor.name.clone(), view.unwrap())
    });
    let entries = metadata().into_iter().collect();
    safetensors::serialize_to_file(views, Some(entries), &reference).unwrap();
    assert_eq!(std::fs::read(&ours).unwrap(), std::fs::read(&reference).unwrap());
    let reversed: Vec<_> = tensors.iter().rev().cloned().collect();
    write(&reference, &reversed, &metadata()).unwrap();
    assert_eq!(std::fs::read(&ours).unwrap(), std::fs::read(&reference).unwrap());
    let read = Checkpoint::open(&ours).unwrap();
    for TensorData { name, dtype, shape, bytes } in &tensors {
        let found = read.tensor(name).unwrap();
        assert_eq!((found.dtype, &found.shape, read.bytes(name).unwrap()), (*dtype, shape, &**bytes));
        assert_eq!((found.elements(), found.byte_len()), (shape.iter().product(), bytes.len()));
    }
    assert_eq!(read.metadata(), &metadata());
}

#[test]
fn write_refuses_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &[counting("a", &[2])], &BTreeMap::new()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let short = TensorData { shape: vec![3], ..counting("b", &[2]) };
    let huge = TensorData { shape: vec![usize::MAX, 2], ..counting("b", &[2]) };
    for (tensors, expected) in [
        (vec![counting("a", &[1]), counting("a", &[2])], "there are two tensors of that name"),
        (vec![counting("", &[1])], "names have no control characters"),
        (vec![counting("__metadata__", &[1])], "names have no control characters"),
        (vec![counting("a\nb", &[1])], r#"the tensor "a\nb" cannot be written"#),
        (vec![short], "it has 8 bytes, which is not the size of F32 [3]"),
        (vec![huge], "it has 8 bytes, which is not the size of F32 [18446744073709551615, 2]"),
    ] {
        let message = write(&path, &tensors, &BTreeMap::new()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn values_are_read_from_every_float_type() {
    let expected = [1.0f32, -2.5, 0.0, 1024.0];
    let tensor = |name: &str, dtype, bytes: Vec<u8>| TensorData {
        name: name.into(),
        dtype,
        shape: vec![4],
        bytes: bytes.into(),
    };
    let file = of_tensors(
        &[
            floats("F32", &[4], &expected),
            tensor("F64", Dtype::F64, expected.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect()),
            tensor("F16", Dtype::F16, expected.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()),
            tensor("BF16", Dtype::BF16, expected.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()),
            tensor("I32", Dtype::I32, vec![0; 16]),
        ],
        &BTreeMap::new(),
    );
    for name in ["F64", "F32", "F16", "BF16"] {
        assert_eq!(file.values(name).unwrap(), expected, "{name}");
    }
    let message = file.values("I32").unwrap_err().to_string();
    assert!(message.contains("I32 holds I32, but only F64, F32, F16 and BF16 can be read here"), "{message}");
    let message = file.values("x").unwrap_err().to_string();
    assert!(message.contains("has no tensor x"), "{message}");
}

#[test]
fn open_and_read_and_from_bytes_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    write(&path, &[counting("a", &[3, 2]), counting("b", &[5])], &metadata()).unwrap();
    let mapped = Checkpoint::open(&path).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    let memory = Checkpoint::from_bytes(std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(mapped.fingerprint(), read.fingerprint());
    assert_eq!(mapped.fingerprint(), memory.fingerprint());
    assert_eq!((mapped.folder(), memory.folder()), (Some(folder.path()), None));
    assert_eq!(mapped.files(), std::slice::from_ref(&path));
    // Replacing the file leaves the mapped one.
    write(&path, &[counting("c", &[1])], &metadata()).unwrap();
    assert_eq!(mapped.fingerprint(), read.fingerprint());
    assert!(Checkpoint::open(&path).unwrap().tensor("c").is_some());
}

#[test]
fn write_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no").join("model.safetensors");
    let error = write(&missing, &[], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
    assert!(error.to_string().ends_with("; create the folder first"), "{error}");
    // Every write to this device finds it full.
    if Path::new("/dev/full").exists() {
        std::os::unix::fs::symlink("/dev/full", folder.path().join("full")).unwrap();
        let full = std::fs::OpenOptions::new().write(true).open(folder.path().join("full")).unwrap();
        let source = std::io::Write::write_all(&mut &full, &[0]).unwrap_err();
        let error = CheckpointError::Write { path: "out".into(), source };
        assert!(error.to_string().contains("free some space and run again"), "{error}");
    }
}

#[test]
fn replace_leaves_only_the_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let other = folder.path().join("results.part");
    std::fs::write(&other, "of another program").unwrap();
    std::thread::scope(|scope| {
        for text in ["one", "two", "three"] {
            let path = &path;
            scope.spawn(move || files::replace(path, text.as_bytes()).unwrap());
        }
    });
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(["one", "two", "three"].contains(&found.as_str()), "{found}");
    // A folder cannot be replaced by a file, and a path without a name is none.
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(files::replace(&folder.path().join("taken"), b"four").is_err());
    assert!(files::replace(&folder.path().join(".."), b"five").is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn replacement_is_removed_unless_committed() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let names = || -> Vec<_> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut file = files::Replacement::create(&path).unwrap();
    file.write_all(b"half").unwrap();
    assert!(names().iter().all(|name| name.starts_with('.')), "{:?}", names());
    drop(file);
    assert!(names().is_empty());
    let mut file = files::Replacement::create(&path).unwrap();
    file.write_all(b"whole").unwrap();
    file.commit().unwrap();
    assert_eq!((names(), std::fs::read(&path).unwrap()), (vec!["file".to_string()], b"whole".to_vec()));
}

#[test]
fn remove_scratch_removes_what_killed_processes_left() {
    let folder = tempfile::tempdir().unwrap();
    files::remove_scratch(&folder.path().join("no")).unwrap();
    std::mem::forget(files::Replacement::create(&folder.path().join("file")).unwrap());
    std::fs::write(folder.path().join("kept.part"), "").unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    files::remove_scratch(folder.path()).unwrap();
    assert!(folder.path().join("kept.part").exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn try_lock_keeps_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let lock = files::try_lock(&path).unwrap().unwrap();
    assert!(files::try_lock(&path).unwrap().is_none());
    drop(lock);
    assert!(files::try_lock(&path).unwrap().is_some());
    assert!(files::try_lock(&folder.path().join("no").join("lock")).is_err());
}
