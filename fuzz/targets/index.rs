//! Any bytes as the index of a folder with two shards: an error, or tensors of that folder.
#![no_main]

use burn_structured_checkpoint::{Checkpoint, Dtype, TensorData, write};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A folder with the shards `one` (tensors `a` and `b`) and `two` (tensor `c`), for this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("burn-structured-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let tensor =
        |name: &str| TensorData { name: name.into(), dtype: Dtype::F32, shape: vec![2], bytes: vec![0; 8].into() };
    write(&folder.join("one"), &[tensor("a"), tensor("b")], &BTreeMap::new()).unwrap();
    write(&folder.join("two"), &[tensor("c")], &BTreeMap::new()).unwrap();
    folder
});

fuzz_target!(|data: &[u8]| {
    let index = FOLDER.join("model.safetensors.index.json");
    fs::write(&index, data).unwrap();
    let Ok(checkpoint) = Checkpoint::open(&index) else { return };
    for file in checkpoint.files() {
        assert_eq!(file.parent(), Some(FOLDER.as_path()));
    }
    assert!(checkpoint.tensors().all(|tensor| ["a", "b", "c"].contains(&tensor.name.as_str())));
});
