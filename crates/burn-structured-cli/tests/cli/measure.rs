//! `eval` and `bench`.

use crate::fixture::Fixture;
use crate::process::{error, json, printed};
use std::fs;

#[test]
fn eval_scores_encoders_and_language_models() {
    let files = Fixture::new();
    let (bert, gpt2, pairs, lines) =
        (files.path("bert"), files.path("gpt2"), files.path("pairs.csv"), files.path("lines.txt"));
    let value = json(&["eval", &bert, &bert, "--sts", &pairs]);
    assert_eq!((value["metric"].as_str(), value["models"][0]["samples"].as_u64()), (Some("spearman"), Some(20)));
    assert_eq!(value["models"][0]["score"], value["models"][1]["score"]);
    let of_stride = |stride: &str| {
        let value = json(&["eval", &gpt2, "--text", &lines, "--stride", stride]);
        assert_eq!(value["metric"], "perplexity");
        value["models"][0]["score"].as_f64().unwrap()
    };
    assert!(of_stride("32") > 1.0 && of_stride("16") > 1.0);
    let text = printed(&["eval", &bert, "--sts", &pairs]);
    assert!(text.contains("spearman") && text.contains("pairs"), "{text}");
}

#[test]
fn eval_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, gpt2, pairs, lines) =
        (files.path("bert"), files.path("gpt2"), files.path("pairs.csv"), files.path("lines.txt"));
    for (arguments, code, message) in [
        (&[&bert[..], "--text", &lines][..], 2, "--sts"),
        (&[&gpt2, "--sts", &pairs], 2, "--text"),
        (&[&bert, "--sts", &lines], 1, "lines.txt, line 1"),
        (&[&bert, "--sts", "/no/such/file"], 1, "/no/such/file"),
        (&[&gpt2, "--text", &lines, "--stride", "33"], 1, "stride = 33"),
        (&[&bert, "--sts", &pairs, "--record"], 1, "run.json"),
        (&[&files.path("other.safetensors"), "--sts", &pairs], 1, "no BERT encoder, GPT-2 or Llama"),
    ] {
        let found = error(&[&["eval"][..], arguments].concat(), code);
        assert!(found.contains(message), "{found}\ninstead of: {message}");
    }
    fs::write(files.file("same.csv"), "g\tf\ty\t1\t2.5\ta dog\ta cat\ng\tf\ty\t2\t2.5\ta bird\ta man\n").unwrap();
    let found = error(&["eval", &bert, "--sts", &files.path("same.csv")], 1);
    assert!(found.contains("no order"), "{found}");
}

#[test]
fn bench_compares_models_in_turns() {
    let files = Fixture::new();
    for (model, kinds) in [("bert", 2), ("gpt2", 3), ("llama", 3)] {
        let small = format!("small-{model}");
        files.compress(model, &small);
        let value = json(&["bench", &files.path(model), &files.path(&small), "--seconds", "0.1", "--batch", "4"]);
        let rows = value["measurements"].as_array().unwrap();
        assert_eq!(rows.len(), 2 * kinds);
        for (index, row) in rows.iter().enumerate() {
            assert!(row["per_second"].as_f64().unwrap() > 0.0 && row["passes"].as_u64().unwrap() >= 3, "{row}");
            assert_eq!(row["speedup"] == 1.0, index % 2 == 0, "{row}");
        }
    }
    let text = printed(&["bench", &files.path("bert"), &files.path("small-bert"), "--seconds", "0.1"]);
    assert!(text.contains("latency") && text.contains("sentences"), "{text}");
}

#[test]
fn bench_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, gpt2, other) = (files.path("bert"), files.path("gpt2"), files.path("other.safetensors"));
    for (arguments, code, message) in [
        (&[&bert[..], &gpt2][..], 2, "different kinds"),
        (&[&bert, &other], 1, "no BERT encoder, GPT-2 or Llama"),
        (&[&bert, &bert, "--length", "25"], 2, "at most 24"),
        (&[&gpt2, &gpt2, "--length", "30"], 2, "at most 15"),
        (&[&bert, "/no/such/model"], 1, "/no/such/model"),
    ] {
        let found = error(&[&["bench"][..], arguments].concat(), code);
        assert!(found.contains(message), "{found}\ninstead of: {message}");
    }
}
