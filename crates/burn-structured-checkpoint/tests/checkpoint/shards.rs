//! Checkpoints in several files.

use crate::build::{counting, floats, folder, raw, refused};
use burn_structured_checkpoint::{Checkpoint, TensorData, write};
use std::collections::BTreeMap;
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";

fn shard(folder: &Path, name: &str, tensors: &[TensorData<'_>]) {
    write(&folder.join(name), tensors, &BTreeMap::from([("format".into(), "pt".into())])).unwrap();
}

fn index(folder: &Path, weight_map: &[(&str, &str)]) {
    let entries: Vec<String> = weight_map.iter().map(|(name, file)| format!("{name:?}:{file:?}")).collect();
    let text = format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{{}}}}}"#, entries.join(","));
    std::fs::write(folder.join(INDEX), text).unwrap();
}

/// Two shards of three tensors.
fn sharded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    shard(folder.path(), "one.safetensors", &[counting("a", &[2, 3]), counting("c", &[1])]);
    shard(folder.path(), "two.safetensors", &[floats("b", &[2], &[0.5, -1.0])]);
    index(folder.path(), &[("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "one.safetensors")]);
    folder
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = sharded();
    for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!(file.tensors().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(file.values("b").unwrap(), [0.5, -1.0]);
        assert_eq!(file.values("a").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(file.metadata(), &BTreeMap::from([("format".to_string(), "pt".to_string())]));
        assert_eq!(file.files(), ["one.safetensors", "two.safetensors"].map(|name| folder.path().join(name)));
        assert_eq!((file.path(), file.folder()), (path.as_path(), Some(folder.path())));
    }
}

#[test]
fn fingerprint_does_not_depend_on_sharding() {
    let folder = sharded();
    let sharded = Checkpoint::open(folder.path()).unwrap().fingerprint();
    let tensors = [counting("c", &[1]), floats("b", &[2], &[0.5, -1.0]), counting("a", &[2, 3])];
    let path = folder.path().join("all.safetensors");
    write(&path, &tensors, &BTreeMap::new()).unwrap();
    let whole = Checkpoint::open(&path).unwrap().fingerprint();
    assert_eq!(sharded, whole);
    assert!(whole.len() == 64 && whole.bytes().all(|byte| byte.is_ascii_hexdigit()), "{whole}");
    // A name, a shape, a type or a value makes another one.
    let as_int = TensorData { dtype: burn_structured_checkpoint::Dtype::I32, ..counting("c", &[1]) };
    for other in [counting("d", &[1]), counting("c", &[1, 1]), floats("c", &[1], &[1.0]), as_int] {
        write(&path, &[other, tensors[1].clone(), tensors[2].clone()], &BTreeMap::new()).unwrap();
        assert_ne!(Checkpoint::open(&path).unwrap().fingerprint(), whole);
    }
}

#[test]
fn single_file_comes_before_the_index() {
    let folder = sharded();
    shard(folder.path(), "model.safetensors", &[counting("whole", &[1])]);
    assert!(Checkpoint::open(folder.path()).unwrap().tensor("whole").is_some());
}

#[test]
fn index_must_not_leave_its_folder() {
    let folder = sharded();
    let secret = folder.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    shard(&secret, "b.safetensors", &[counting("b", &[2])]);
    let absolute = secret.join("b.safetensors").to_string_lossy().into_owned();
    for file in
        ["secret/b.safetensors", "../x.safetensors", "./one.safetensors", "", ".", "..", "a\\b", "C:b", &absolute]
    {
        index(folder.path(), &[("a", "one.safetensors"), ("b", file)]);
        let message = refused(folder.path());
        assert!(message.contains(&format!("names {file:?}, which is not the name of a file")), "{message}");
    }
}

#[test]
fn index_and_shards_must_belong_together() {
    let folder = sharded();
    index(folder.path(), &[("a", "one.safetensors"), ("b", "three.safetensors")]);
    let message = refused(folder.path());
    assert!(message.contains(&format!("{INDEX} names three.safetensors, which cannot be read: ")), "{message}");
    assert!(message.ends_with("; fetch the missing shard"), "{message}");
    for weight_map in [
        &[("a", "one.safetensors"), ("b", "one.safetensors")][..],
        &[("a", "one.safetensors"), ("b", "two.safetensors"), ("x", "two.safetensors")],
    ] {
        index(folder.path(), weight_map);
        let message = refused(folder.path());
        assert!(message.contains("index and shards do not belong together"), "{message}");
    }
    shard(folder.path(), "two.safetensors", &[counting("a", &[1])]);
    index(folder.path(), &[("a", "one.safetensors"), ("c", "two.safetensors")]);
    let message = refused(folder.path());
    assert!(message.contains("the tensor a is both in ") && message.contains("two.safetensors"), "{message}");
    std::fs::write(folder.path().join("two.safetensors"), raw("{}", &[1])).unwrap();
    let message = refused(folder.path());
    assert!(message.contains("two.safetensors has 1 bytes behind its last tensor"), "{message}");
    std::fs::remove_file(folder.path().join("two.safetensors")).unwrap();
    std::fs::create_dir(folder.path().join("two.safetensors")).unwrap();
    assert!(refused(folder.path()).contains("two.safetensors is neither a file nor a folder"));
}

#[test]
fn index_must_be_json_of_names() {
    for (text, expected) in [
        ("", "EOF"),
        ("[]", "invalid"),
        ("{}", "missing field `weight_map`"),
        (r#"{"weight_map":{}}"#, "it names no tensor"),
        (r#"{"weight_map":{"a":1}}"#, r#""a": invalid type: integer `1`"#),
        (r#"{"weight_map":{"a":"x","a":"y"}}"#, r#""a" occurs twice"#),
        (r#"{"weight_map":{"a":"x"},"weight_map":{}}"#, "duplicate field"),
    ] {
        let folder = folder(&[(INDEX, text.as_bytes())]);
        let message = refused(folder.path());
        assert!(message.contains("is no valid index of shards: ") && message.contains(expected), "{message}");
    }
    let named = folder(&[(INDEX, br#"{"weight_map":{"a\u001b":"x"}}"#)]);
    let message = refused(named.path());
    assert!(message.contains(r#""a\u{1b}" is no name for a tensor"#), "{message}");
    let folder = folder(&[(INDEX, b"{}")]);
    let file = std::fs::File::options().write(true).open(folder.path().join(INDEX)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(refused(folder.path()).contains("a header of 1099511627776 bytes is above the limit"));
}
