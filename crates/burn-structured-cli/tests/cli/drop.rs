//! `drop`.

use crate::fixture::{Fixture, bytes_of, lasting};
use crate::process::{command, error, json, printed};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// The tensors of a model: name, type and shape.
fn tensors(model: &str) -> Vec<Value> {
    json(&["inspect", model])["tensors"].as_array().unwrap().clone()
}

#[test]
fn drop_writes_a_dense_model_of_fewer_blocks() {
    let files = Fixture::new();
    for (model, container, field) in [
        ("bert", "encoder.layer.", "num_hidden_layers"),
        ("gpt2", "transformer.h.", "n_layer"),
        ("llama", "model.layers.", "num_hidden_layers"),
    ] {
        let one = format!("one-{model}");
        let value = json(&[
            "drop",
            &files.path(model),
            "--keep",
            "1",
            "--text",
            &files.path("lines.txt"),
            "-o",
            &files.path(&one),
        ]);
        let kept = value["kept"][0].as_u64().unwrap();
        assert!(value["output_error"].as_f64().unwrap() > 0.0 && value["distillation"].is_null(), "{value}");
        assert!(value["after"]["parameters"].as_u64().unwrap() < value["before"]["parameters"].as_u64().unwrap());
        // The kept block is the first one now, with its very bytes, and so is everything outside of the blocks.
        let dense = burn_structured_checkpoint::Checkpoint::open(files.path(model)).unwrap();
        let found = burn_structured_checkpoint::Checkpoint::open(files.path(&one)).unwrap();
        let expected: Vec<String> = dense
            .tensors()
            .map(|tensor| tensor.name.clone())
            .filter(|name| !name.starts_with(container) || name.starts_with(&format!("{container}{kept}.")))
            .collect();
        assert_eq!(found.tensors().count(), expected.len());
        for name in expected {
            let renamed = name.replace(&format!("{container}{kept}."), &format!("{container}0."));
            assert_eq!(found.bytes(&renamed).unwrap(), dense.bytes(&name).unwrap(), "{name}");
        }
        let config = |model: &str| fs::read_to_string(files.file(model).join("config.json")).unwrap();
        assert_eq!(config(&one), config(model).replace(&format!("\"{field}\":2"), &format!("\"{field}\":1")));
        let others = |model: &str| -> Vec<_> {
            let all = bytes_of(&files.file(model)).into_iter();
            let all = all.map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes));
            all.filter(|(name, _)| name != "config.json" && !name.to_string_lossy().contains(".safetensors")).collect()
        };
        assert_eq!(others(&one), others(model));
        assert!(!files.file(&format!("{one}.partial")).exists());
    }
    let scored = json(&["eval", &files.path("one-bert"), "--sts", &files.path("pairs.csv")]);
    assert!(scored["models"][0]["score"].is_f64());
    json(&["eval", &files.path("one-gpt2"), "--text", &files.path("lines.txt")]);
    // It can be compressed further.
    files.compress("one-bert", "small");
}

#[test]
fn drop_trains_what_is_left() {
    let files = Fixture::new();
    for model in ["bert", "gpt2"] {
        let output = |name: &str| files.path(&format!("{name}-{model}"));
        let (model, lines) = (files.path(model), files.path("lines.txt"));
        let arguments = |steps: &str, path: &str| {
            [
                "drop",
                &model,
                "--keep",
                "1",
                "--text",
                &lines,
                "--distill-steps",
                steps,
                "--distill-rate",
                "3e-3",
                "-o",
                path,
            ]
            .map(String::from)
        };
        let trained = json(&arguments("20", &output("trained")));
        let found = |name: &str| trained["distillation"][name].as_f64().unwrap();
        assert!(found("after") < found("before"), "{trained}");
        let measure = if model.ends_with("bert") { "output_error" } else { "divergence" };
        assert_eq!(trained["distillation"]["measure"], measure);
        assert_eq!(trained["distillation"]["steps"], 20);
        let text = printed(&[&arguments("3", &output("text"))[..], &["--force".into()]].concat());
        assert!(text.contains(" of 0 to 1 stay: output error ") && text.contains("distilled in 3 steps: "), "{text}");
        assert_eq!(tensors(&output("trained")), tensors(&output("text")));
        let before = tensors(&model);
        assert!(tensors(&output("trained")).iter().all(|tensor| before.contains(tensor)));
    }
}

#[test]
fn killed_drop_continues_to_the_same_bytes() {
    let files = Fixture::new();
    let arguments = |output: &str| {
        [
            "drop",
            &files.path("bert"),
            "--keep",
            "1",
            "--text",
            &files.path("lines.txt"),
            "--distill-steps",
            "30",
            "-o",
            &files.path(output),
        ]
        .map(String::from)
    };
    printed(&arguments("whole"));
    let whole = lasting(&files.file("whole"));
    for moment in 1..=4 {
        let output = format!("killed-{moment}");
        let mut run = command(&arguments(&output)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 * moment));
        run.kill().unwrap();
        run.wait().unwrap();
        if !files.file(&output).exists() {
            printed(&arguments(&output));
        }
        assert!(lasting(&files.file(&output)) == whole, "the result differs");
    }
}

#[test]
fn drop_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, lines, one) = (files.path("bert"), files.path("lines.txt"), files.path("one"));
    let other = files.path("other.safetensors");
    files.compress("bert", "small");
    let small = files.path("small");
    for (model, keep, more, code, message) in [
        (&bert, "2", &["--text", &lines][..], 2, "from 1 to 1"),
        (&bert, "0", &["--text", &lines], 2, "at least 1"),
        (&bert, "1", &[], 2, "--text"),
        (&bert, "1", &["--text", "/no/such/text"], 1, "/no/such/text"),
        (&other, "1", &["--text", &lines], 1, "no BERT encoder, GPT-2 or Llama"),
        (&small, "1", &["--text", &lines], 1, "compressed already"),
    ] {
        let found = error(&[&["drop", model, "--keep", keep, "-o", &one][..], more].concat(), code);
        assert!(found.contains(message), "{found}\ninstead of: {message}");
        assert!(!files.file("one").exists());
    }
    printed(&["drop", &bert, "--keep", "1", "--text", &lines, "-o", &one]);
    let found = error(&["drop", &bert, "--keep", "1", "--text", &lines, "-o", &one], 1);
    assert!(found.contains("one exists") && found.contains("--force"), "{found}");
}
