//! What is done with a compressed model: `quantize`, `to-dense`, `verify`, `report`; and `import`.

use crate::fixture::{Fixture, bytes_of};
use crate::models::write_authors_blast;
use crate::process::{command, error, json, printed, text};
use std::fs;

#[test]
fn to_dense_restores_names_shapes_and_types() {
    let files = Fixture::new();
    for model in ["bert", "gpt2", "llama"] {
        let (small, dense) = (format!("small-{model}"), format!("dense-{model}"));
        files.compress(model, &small);
        let value = json(&["to-dense", &files.path(&small), "-o", &files.path(&dense)]);
        let before = json(&["inspect", &files.path(model)]);
        let after = json(&["inspect", &files.path(&dense)]);
        assert_eq!(before["tensors"], after["tensors"]);
        assert_eq!(value["tensors"].as_u64().unwrap() as usize, before["tensors"].as_array().unwrap().len());
        assert!(after["compressed"].is_null());
        assert!(files.file(&dense).join("config.json").is_file());
    }
    // The same model in both forms.
    let score = |model: &str| {
        let value = json(&["eval", &files.path(model), "--text", &files.path("lines.txt")]);
        value["models"][0]["score"].as_f64().unwrap()
    };
    let [small, dense, original] = ["small-gpt2", "dense-gpt2", "gpt2"].map(score);
    assert!((small / dense - 1.0).abs() < 1e-4 && (small / original - 1.0).abs() > 1e-4, "{small} {dense} {original}");
}

#[test]
fn quantized_models_are_smaller_and_compute_nearly_the_same() {
    let files = Fixture::new();
    for model in ["bert", "gpt2"] {
        let small = format!("small-{model}");
        files.compress(model, &small);
        let int8 = format!("int8-{model}");
        let value = json(&["quantize", &files.path(&small), "-o", &files.path(&int8)]);
        assert!(value["layers"].as_u64().unwrap() > 0, "{value}");
        assert!(value["bytes"].as_u64().unwrap() < value["bytes_before"].as_u64().unwrap(), "{value}");
        let text = printed(&["inspect", &files.path(&int8)]);
        assert!(text.contains(", int8") && text.contains("I8"), "{text}");
        assert_eq!(json(&["verify", &files.path(&int8)])["passed"], true);
        printed(&["report", &files.path(&int8), "--with", &files.path(&small)]);
        assert!(files.file(&int8).join("report.html").is_file());
        let found = error(&["quantize", &files.path(&int8), "-o", &files.path("twice")], 1);
        assert!(found.contains("is it quantized already?"), "{found}");
    }
    let score = |model: &str| {
        let value = json(&["eval", &files.path(model), "--text", &files.path("lines.txt")]);
        value["models"][0]["score"].as_f64().unwrap()
    };
    let [int8, small] = ["int8-gpt2", "small-gpt2"].map(score);
    assert!(int8 != small && (int8 / small - 1.0).abs() < 0.05, "{int8} {small}");
}

#[test]
fn to_dense_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, dense) = (files.path("bert"), files.path("dense"));
    let found = error(&["to-dense", &bert, "-o", &dense], 1);
    assert!(found.contains("is not compressed"), "{found}");
    files.compress("bert", "small");
    let found = error(&["to-dense", &files.path("small"), "-o", &bert], 1);
    assert!(found.contains("bert") && found.contains("choose another output"), "{found}");
    assert!(!files.file("dense").exists());
}

#[test]
fn verify_finds_what_was_changed() {
    let files = Fixture::new();
    printed(&files.blockwise("small"));
    let (small, bert) = (files.path("small"), files.path("bert"));
    for arguments in [&["verify", &small][..], &["verify", &small, "--dense", &bert]] {
        let value = json(arguments);
        assert_eq!(value["passed"], true, "{value}");
        assert!(printed(arguments).contains("the model is what its report says"));
    }
    let failed = |what: &str| {
        let output = command(&["verify", &small, "--dense", &bert, "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{what}: {}", text(&output.stderr));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["passed"], false, "{what}");
        value.to_string()
    };
    // One bit of a factor.
    let path = files.file("small/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 0x10;
    fs::write(&path, &changed).unwrap();
    assert!(failed("a changed bit").contains("model.safetensors was changed"));
    fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    let found = error(&["verify", &small], 1);
    assert!(found.contains("model.safetensors"), "{found}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(json(&["verify", &small])["passed"], true);
    fs::write(files.file("small/config.json"), "{}").unwrap();
    assert!(failed("another configuration").contains("config.json"));

    let found = error(&["verify", &bert], 1);
    assert!(found.contains("is not compressed"), "{found}");
}

#[test]
fn report_shows_scores_and_layers() {
    let files = Fixture::new();
    printed(&files.blockwise("small"));
    files.compress("bert", "plain");
    let (small, plain, bert, pairs) =
        (files.path("small"), files.path("plain"), files.path("bert"), files.path("pairs.csv"));
    let scored = printed(&["eval", &bert, &small, &plain, "--sts", &pairs, "--record"]);
    assert!(
        scored.contains("small/run.json, beside the dense model ") && scored.contains("plain/run.json"),
        "{scored}"
    );
    let found = error(&["eval", &bert, &small, &files.path("bert/../bert"), "--sts", &pairs, "--record"], 2);
    assert!(found.contains("one dense model, but "), "{found}");
    let value = json(&["report", &small, "--dense", &bert, "--with", &plain]);
    assert_eq!(value["run"]["scores"].as_array().unwrap().len(), 1);
    let page = fs::read_to_string(files.file("small/report.html")).unwrap();
    for part in ["<svg", "encoder.layer.1.output.dense", "Spearman", "burn-structured"] {
        assert!(page.contains(part), "{part}");
    }
    for reference in ["<script src", "<link", "http://", "src=\"http"] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(reference), "{reference}");
    }
    let card = fs::read_to_string(files.file("small/MODEL_CARD.md")).unwrap();
    assert!(card.contains("# "), "{card}");
    // Neither changes what is verified.
    assert_eq!(json(&["verify", &small])["passed"], true);

    let page = files.path("page.html");
    printed(&["report", &small, "-o", &page, "--card", &files.path("card.md")]);
    assert!(files.file("page.html").is_file() && files.file("card.md").is_file());
    let before = bytes_of(&files.file("bert"));
    let found = error(&["report", &bert], 1);
    assert!(found.contains("report.json"), "{found}");
    assert_eq!(bytes_of(&files.file("bert")), before);
    let found = error(&["report", &small, "-o", &files.path("no/such/page.html")], 1);
    assert!(found.contains("page.html"), "{found}");
    let text = printed(&["report", &small]);
    assert!(text.contains("wrote "), "{text}");
}

#[test]
fn import_reads_the_layout_of_the_paper() {
    let files = Fixture::new();
    let (authors, imported, dense) =
        (files.path("authors.safetensors"), files.path("imported.safetensors"), files.path("dense"));
    write_authors_blast(&files.file("authors.safetensors"));
    let value = json(&["import", &authors, "-o", &imported]);
    assert_eq!(value["layers"], serde_json::json!(["fc"]));
    let inspected = json(&["inspect", &imported]);
    assert_eq!(inspected["compressed"]["layers"]["fc"]["structure"], "blast:b=2x3,r=4");
    printed(&["to-dense", &imported, "-o", &dense]);
    let tensors = json(&["inspect", &dense])["tensors"].clone();
    assert_eq!((tensors[1]["name"].as_str(), &tensors[1]["shape"]), (Some("fc.weight"), &serde_json::json!([10, 18])));

    let found = error(&["import", &authors, "-o", &imported], 1);
    assert!(found.contains("--force"), "{found}");
    printed(&["import", &authors, "--force", "--couplings", "blocks-first", "-o", &imported]);
    let found = error(&["import", &authors, "--couplings", "rank-first", "-o", &files.path("x")], 1);
    assert!(found.contains("fc.D"), "{found}");
    let found = error(&["import", &files.path("other.safetensors"), "-o", &files.path("x")], 1);
    assert!(found.contains("B, C and D"), "{found}");
}
