//! The example as a user runs it: texts, streams, batches, speeds and errors.

use crate::models::write_llama;
use crate::process::{assert_one_error, example, printed};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Trains a model of two blocks on the built-in text, and returns its folder.
fn model(root: &Path, structure: &str) -> PathBuf {
    let out = root.join(structure.replace(':', "-"));
    let sizes = ["--depth", "2", "--heads", "2", "--features", "16", "--context", "32", "--batch-size", "4"];
    let training = ["--steps", "5", "--sample-tokens", "0", "--structure", structure, "--out"];
    let output = example("gpt2_text").args(sizes).args(training).arg(&out).output().expect("the example was built");
    printed(&output);
    out
}

fn generate(model: &Path, arguments: &[&str]) -> Output {
    example("generate").arg("--model").arg(model).args(arguments).output().expect("the example was built")
}

/// The texts that were written to a file of the run.
fn texts(model: &Path, arguments: &[&str]) -> Vec<String> {
    let json = model.join("generated.json");
    printed(&generate(model, &[arguments, &["--json", json.to_str().unwrap()]].concat()));
    let outputs: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let continuations = outputs[0]["continuations"].as_array().unwrap();
    continuations.iter().map(|continuation| continuation["text"].as_str().unwrap().to_string()).collect()
}

#[test]
fn texts_are_streamed_batched_and_repeated_by_seed() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "dense");
    let sampling = ["--tokens", "8", "--temperature", "0.9", "--top-k", "50", "--top-p", "0.95", "--seed"];
    let alone = |seed: &str| texts(&model, &[&sampling[..], &[seed, "--prompt", "The "]].concat()).remove(0);
    assert_eq!(alone("3"), alone("3"));
    assert_ne!(alone("3"), alone("4"));
    // A row of a batch draws as alone with the next seed.
    let batch = [&sampling[..], &["3", "--prompt", "A longer one ", "--prompt", "The "]].concat();
    let together = texts(&model, &batch);
    assert_eq!((together.len(), &together[1]), (2, &alone("4")));

    let stdout = printed(&generate(&model, &[&sampling[..], &["3", "--prompt", "The "]].concat()));
    assert!(stdout.starts_with(&format!("The {}\n", alone("3"))), "{stdout}");
    assert!(stdout.contains("prefill: 4 tokens, ") && stdout.contains("decode: 7 tokens, "), "{stdout}");
}

#[test]
fn text_ends_before_a_stop_string() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "dense");
    let greedy = ["--temperature", "0", "--prompt", "The ", "--tokens", "12", "--repetition-penalty", "1.3"];
    let whole = texts(&model, &greedy).remove(0);
    let stop: String = whole.chars().skip(3).take(2).collect();
    let cut = texts(&model, &[&greedy[..], &["--stop", "never", "--stop", &stop]].concat()).remove(0);
    assert_eq!(cut, whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn prompt_comes_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "dense");
    let mut child = example("generate")
        .arg("--model")
        .arg(&model)
        .args(["--tokens", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example was built");
    child.stdin.take().expect("a pipe").write_all(b"From a pipe").unwrap();
    assert!(printed(&child.wait_with_output().unwrap()).starts_with("From a pipe"));
}

#[test]
fn two_models_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let [dense, structured] = ["dense", "low-rank:r=2"].map(|structure| model(folder.path(), structure));
    let compare = ["--compare", structured.to_str().unwrap(), "--prompt", "The ", "--tokens", "4"];
    let stdout = printed(&generate(&dense.join("model.safetensors"), &compare));
    for path in [&dense.join("model.safetensors"), &structured] {
        assert!(stdout.contains(&format!("# {}\n", path.display())), "{stdout}");
    }
    assert!(stdout.contains(", 100 % of the dense") && stdout.matches("decode: 3 tokens").count() == 2, "{stdout}");
}

#[test]
fn llama_is_read_from_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let [llama, gpt2] = [folder.path().join("llama"), model(folder.path(), "dense")];
    write_llama(&llama);
    let greedy = ["--temperature", "0", "--prompt", "The ", "--tokens", "6"];
    assert_eq!(texts(&llama, &greedy), texts(&llama, &[&greedy[..], &["--prefill-chunk", "1"]].concat()));
    let stdout = printed(&generate(&llama, &[&greedy[..], &["--compare", gpt2.to_str().unwrap()]].concat()));
    assert_eq!(stdout.matches("decode: 5 tokens").count(), 2, "{stdout}");
}

#[test]
fn random_models_are_measured() {
    for model in ["nano", "llama-tiny"] {
        measured(model);
    }
}

/// Measures two structures of a random model.
fn measured(model: &str) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("speeds.json");
    let output = example("generate")
        .args(["--random", model, "--structure", "dense,blast:b=4,r=8", "--prefill", "20", "--decode", "3,5"])
        .args(["--batch", "2", "--repeats", "2", "--json"])
        .arg(&json)
        .output()
        .expect("the example was built");
    let stdout = printed(&output);
    assert!(stdout.contains("| dense | ") && stdout.contains("| blast:b=4,r=8 | "), "{stdout}");
    let speeds: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let cases = [(1.0, 3), (1.0, 5), (0.5, 3), (0.5, 5)];
    assert_eq!(speeds.as_array().unwrap().len(), cases.len());
    for (speed, (relative, new_tokens)) in speeds.as_array().unwrap().iter().zip(cases) {
        assert!(speed["relative_flops"].as_f64().unwrap() <= relative, "{speed}");
        assert_eq!((&speed["prompt_tokens"], &speed["new_tokens"]), (&20.into(), &new_tokens.into()));
        for (phase, tokens) in [("prefill", 40), ("decode", 2 * new_tokens)] {
            let runs = speed[phase].as_array().unwrap();
            assert!(runs.len() == 2 && runs.iter().all(|run| run["tokens"] == tokens), "{speed}");
        }
    }
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "dense");
    let out = folder.path().join("never.json");
    let long = "word ".repeat(20);
    for (arguments, message) in [
        (&["--prompt", &long][..], "more than the model's context of 32; shorten the prompt"),
        (&["--prompt", "a", "--tokens", "40"], "generate at most 31"),
        (&["--prompt", ""], "prompt 0 is empty"),
        (&["--prompt", "a", "--temperature=-1"], "temperature = -1"),
        (&["--prompt", "a", "--top-k", "0"], "top-k = 0"),
        (&["--prompt", "a", "--top-p", "2"], "top-p = 2"),
        (&["--prompt", "a", "--repetition-penalty", "0"], "repetition penalty = 0"),
        (&["--prompt", "a", "--stop", ""], "stop string = \"\""),
        (&["--prompt", "a", "--tokens", "0"], "new tokens = 0"),
        (&["--prompt", "a", "--tokenizer", "gpt2"], "has 50257 tokens, but the model only 256"),
        (&["--prompt", "a", "--compare", "/no/such/model"], "/no/such/model"),
        (&["--prompt", "a", "--device", "abacus"], "unknown device `abacus`"),
    ] {
        let arguments = [arguments, &["--json", out.to_str().unwrap()]].concat();
        assert_one_error(&generate(&model, &arguments), message, &out);
    }
    assert_one_error(&generate(Path::new("/no/such/model"), &["--prompt", "a"]), "/no/such/model", &out);
    let sliding = generate(&model, &["--prompt", &long, "--slide", "--tokens", "40"]);
    assert!(printed(&sliding).contains("decode: 39 tokens"));
}
