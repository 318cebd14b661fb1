//! `inspect`.

use crate::models::{bert_tensors, write_bert, write_gpt2, write_other};
use crate::process::{error, json, printed};
use std::fs;

#[test]
fn inspect_lists_tensors_and_linear_layers() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("bert");
    write_bert(&model);
    let model = model.to_str().unwrap();
    let text = printed(&["inspect", model]);
    assert!(text.contains("family BERT"), "{text}");
    assert!(text.contains("encoder.layer.1.output.dense.weight"), "{text}");
    assert!(text.contains("32 → 16, [out, in]"), "{text}");
    assert!(text.contains("12 dense linear layers in 2 blocks: 4.1 k weights"), "{text}");
    let linears = printed(&["inspect", model, "--linears"]);
    assert!(!linears.contains("embeddings") && linears.contains("attention.self.query.weight"), "{linears}");

    let value = json(&["inspect", model]);
    assert_eq!(value["family"], "bert");
    assert_eq!(value["totals"]["linears"], 12);
    assert_eq!(value["totals"]["linear_weights"], 2 * 16 * (4 * 16 + 2 * 32));
    assert_eq!(value["tensors"].as_array().unwrap().len(), bert_tensors().values.len());
    assert_eq!(value["linears"][4]["name"], "encoder.layer.0.intermediate.dense");
    assert_eq!(value["compressed"], serde_json::Value::Null);
}

#[test]
fn inspect_reads_shards_as_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, shards) = (folder.path().join("whole"), folder.path().join("shards"));
    fs::create_dir_all(&shards).unwrap();
    write_bert(&whole);
    bert_tensors().write_sharded(&shards);
    let one = json(&["inspect", whole.to_str().unwrap()]);
    for path in [shards.clone(), shards.join("model.safetensors.index.json")] {
        let two = json(&["inspect", path.to_str().unwrap()]);
        assert_eq!(two["files"].as_array().unwrap().len(), 2);
        for part in ["tensors", "linears", "totals"] {
            assert_eq!(one[part], two[part]);
        }
    }
}

#[test]
fn inspect_tells_orientations_apart() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("gpt2");
    write_gpt2(&model);
    let value = json(&["inspect", model.to_str().unwrap()]);
    let attention = &value["linears"][0];
    assert_eq!(attention["name"], "transformer.h.0.attn.c_attn");
    assert_eq!((attention["d_input"].as_u64(), attention["d_output"].as_u64()), (Some(16), Some(48)));
    assert_eq!((attention["orientation"].as_str(), attention["fused"].as_bool()), (Some("in_out"), Some(true)));

    let other = folder.path().join("other.safetensors");
    write_other(&other);
    let value = json(&["inspect", other.to_str().unwrap()]);
    assert_eq!(value["family"], "other");
    let names: Vec<&str> =
        value["linears"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mlp.down", "mlp.up"]);
}

#[test]
fn inspect_names_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let missing = error(&["inspect", &path("missing")], 1);
    assert!(missing.contains("missing"), "{missing}");
    fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = error(&["inspect", &path("empty")], 1);
    assert!(empty.contains("model.safetensors"), "{empty}");
    write_other(&folder.path().join("whole.safetensors"));
    let bytes = fs::read(folder.path().join("whole.safetensors")).unwrap();
    for (name, bytes) in [("cut.safetensors", &bytes[..bytes.len() - 7]), ("tiny.safetensors", &bytes[..5])] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let error = error(&["inspect", &path(name)], 1);
        assert!(error.contains(name), "{error}");
    }
}
