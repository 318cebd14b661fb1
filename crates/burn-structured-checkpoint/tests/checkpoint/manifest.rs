//! What compressed checkpoints say of themselves.

use crate::build::{counting, of_tensors};
use burn_structured_checkpoint::{
    Checkpoint, CheckpointError, Dtype, FORMAT, LayerEntry, MANIFEST_KEY, Manifest, Orientation,
};
use std::collections::BTreeMap;

fn entry() -> LayerEntry {
    LayerEntry {
        structure: "low-rank:r=2".into(),
        int8: false,
        d_input: 6,
        d_output: 4,
        orientation: Orientation::InOut,
        dtype: "BF16".into(),
        relative_error: Some(0.25),
    }
}

fn manifest() -> Manifest {
    Manifest { layers: BTreeMap::from([("fc".into(), entry())]), ..Manifest::new("test 1", u64::MAX) }
}

/// A checkpoint of one layer `fc` with this description.
fn described(text: &str) -> Checkpoint {
    let metadata = BTreeMap::from([(MANIFEST_KEY.to_string(), text.to_string())]);
    of_tensors(&[counting("fc.v", &[6, 2]), counting("fc.ut", &[2, 4]), counting("other.weight", &[3])], &metadata)
}

fn refused(text: &str) -> String {
    described(text).manifest().unwrap_err().to_string()
}

#[test]
fn manifest_survives_the_file() {
    let mut metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let manifest = Manifest { source: Some("abc".into()), ..manifest() };
    manifest.insert_into(&mut metadata);
    let file = of_tensors(&[counting("fc.v", &[6, 2]), counting("fc.ut", &[2, 4])], &metadata);
    assert_eq!(file.manifest().unwrap(), Some(manifest));
    assert_eq!(file.metadata()["format"], "pt");
    assert_eq!(entry().dtype(), Some(Dtype::BF16));
    assert_eq!(crate::build::checkpoint(&[("a", &[1])]).manifest().unwrap(), None);
}

#[test]
fn manifest_text_is_what_is_documented() {
    let text = r#"{"format":1,"tool":"t","seed":3,"layers":{"fc":{"structure":"low-rank:r=2","d_input":6,"d_output":4,"orientation":"out_in","dtype":"F32"}}}"#;
    let read = described(text).manifest().unwrap().unwrap();
    let fc = LayerEntry { orientation: Orientation::OutIn, dtype: "F32".into(), relative_error: None, ..entry() };
    assert_eq!(read, Manifest { layers: BTreeMap::from([("fc".into(), fc)]), ..Manifest::new("t", 3) });
    assert_eq!(read.format, FORMAT);
    // A later version of this format may say more.
    let more = text.replacen("\"seed\":3", "\"seed\":3,\"more\":[1]", 1);
    assert_eq!(described(&more).manifest().unwrap().unwrap(), read);
}

#[test]
fn unknown_formats_are_refused_before_they_are_read() {
    for format in [0, 2, u64::MAX] {
        let error = described(&format!(r#"{{"format":{format},"layers":"?"}}"#)).manifest().unwrap_err();
        assert!(matches!(error, CheckpointError::Format { newest: 1, .. }), "{error}");
        assert!(error.to_string().ends_with("this version reads format 1; update burn-structured"), "{error}");
    }
}

#[test]
fn broken_manifests_are_refused() {
    for (text, expected) in [
        ("", "EOF"),
        ("{}", "missing field `format`"),
        (r#"{"format":1}"#, "missing field"),
        (r#"{"format":-1}"#, "invalid value"),
        (r#"{"format":1,"tool":"t","seed":1,"layers":[]}"#, "invalid type: sequence"),
        (r#"{"format":1,"tool":"t","seed":1,"layers":{"fc":{}}}"#, r#""fc": missing field `structure`"#),
    ] {
        let message = refused(text);
        assert!(message.contains("the metadata entry `burn_structured` is not valid: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let fc = serde_json::to_string(&entry()).unwrap();
    let twice = format!(r#"{{"format":1,"tool":"t","seed":1,"layers":{{"fc":{fc},"fc":{fc}}}}}"#);
    assert!(refused(&twice).contains(r#""fc" occurs twice"#));
}

#[test]
fn layers_of_the_manifest_must_be_in_the_file() {
    let with = |name: &str, entry: LayerEntry| {
        let manifest = Manifest { layers: BTreeMap::from([(name.into(), entry)]), ..manifest() };
        refused(&serde_json::to_string(&manifest).unwrap())
    };
    for (name, changed, expected) in [
        ("gone", entry(), "the layer gone has no factors in the file"),
        ("f", entry(), "the layer f has no factors in the file"),
        ("other", entry(), "the layer other has both a dense weight and a description of factors"),
        ("", entry(), "has no valid name"),
        ("f\u{1b}c", entry(), r"the layer f\u{1b}c has no valid name"),
        ("fc", LayerEntry { d_input: 0, ..entry() }, "the layer fc is said to be 0 → 4, which no layer is"),
        ("fc", LayerEntry { d_output: usize::MAX, ..entry() }, "which no layer is"),
        ("fc", LayerEntry { d_input: 1 << 20, d_output: 1 << 20, ..entry() }, "which no layer is"),
        ("fc", LayerEntry { dtype: "F31".into(), ..entry() }, r#"is said to have been "F31", which is no number type"#),
        ("fc", LayerEntry { relative_error: Some(-1.0), ..entry() }, "has a negative error"),
    ] {
        let message = with(name, changed);
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn shards_must_not_contradict_each_other() {
    let folder = tempfile::tempdir().unwrap();
    for (name, tensor, seed) in [("one", "a", 1), ("two", "b", 2)] {
        let mut metadata = BTreeMap::new();
        Manifest::new("test", seed).insert_into(&mut metadata);
        burn_structured_checkpoint::write(&folder.path().join(name), &[counting(tensor, &[1])], &metadata).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map":{"a":"one","b":"two"}}"#).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("have different `burn_structured` entries"), "{message}");
}
