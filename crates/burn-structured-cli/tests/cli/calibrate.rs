//! `calibrate`.

use crate::fixture::Fixture;
use crate::process::{error, json, printed};
use std::fs;

#[test]
fn calibrate_sees_every_layer_of_both_models() {
    let files = Fixture::new();
    for (model, layers) in [("bert", 12), ("gpt2", 8)] {
        let stats = files.path("stats");
        let value = json(&["calibrate", &files.path(model), "--text", &files.path("lines.txt"), "-o", &stats]);
        assert_eq!(value["layers"].as_object().unwrap().len(), layers);
        assert!(value["tokens"].as_u64().unwrap() > 100);
        assert!(files.file("stats").is_file());
    }
    let few = json(&[
        "calibrate",
        &files.path("gpt2"),
        "--text",
        &files.path("lines.txt"),
        "--samples",
        "3",
        "-o",
        &files.path("s"),
    ]);
    assert_eq!(few["tokens"], 3 * 32);
}

#[test]
fn merged_statistics_are_those_of_both_texts() {
    let files = Fixture::new();
    let lines = fs::read_to_string(files.file("lines.txt")).unwrap();
    let (first, second) = lines.split_at(lines.match_indices('\n').nth(29).unwrap().0 + 1);
    fs::write(files.file("first.txt"), first).unwrap();
    fs::write(files.file("second.txt"), second).unwrap();
    let tokens = |arguments: &[&str]| json(arguments)["tokens"].as_u64().unwrap();
    let bert = files.path("bert");
    let [a, b, both, whole] = ["a", "b", "both", "whole"].map(|name| files.path(name));
    let of = |text: &str, stats: &str| tokens(&["calibrate", &bert, "--text", &files.path(text), "-o", stats]);
    let sum = of("first.txt", &a) + of("second.txt", &b);
    assert_eq!(tokens(&["calibrate", "--merge", &a, &b, "-o", &both]), sum);
    let files_of_both =
        ["calibrate", &bert, "--text", &files.path("first.txt"), "--text", &files.path("second.txt"), "-o", &whole];
    assert_eq!(tokens(&files_of_both), sum);
    assert!(printed(&["calibrate", "--merge", &a, "-o", &both]).contains("12 layers"));
}

#[test]
fn calibrate_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, gpt2, lines, stats) =
        (files.path("bert"), files.path("gpt2"), files.path("lines.txt"), files.path("stats"));
    fs::write(files.file("blank.txt"), " \n\n").unwrap();
    fs::write(files.file("empty.txt"), "").unwrap();
    fs::write(files.file("binary.txt"), [0xff, 0xfe, 0x00]).unwrap();
    for (model, text, more, message) in [
        (&bert, files.path("blank.txt"), &[][..], "blank.txt"),
        (&bert, files.path("empty.txt"), &[], "empty.txt"),
        (&bert, files.path("binary.txt"), &[], "binary.txt"),
        (&bert, files.path("missing.txt"), &[], "missing.txt"),
        (&gpt2, lines.clone(), &["--tokenizer", "gpt2"], "50257"),
        (&gpt2, lines.clone(), &["--tokenizer", "/no/tokenizer"], "/no/tokenizer"),
        (&files.path("other.safetensors"), lines.clone(), &[], "no BERT encoder, GPT-2 or Llama"),
        (&files.path("missing"), lines.clone(), &[], "missing"),
    ] {
        let arguments = [&["calibrate", model, "--text", &text, "-o", &stats][..], more].concat();
        let found = error(&arguments, 1);
        assert!(found.contains(message), "{found}\ninstead of: {message}");
        assert!(!files.file("stats").exists());
    }
    let found = error(&["calibrate", &bert, "--text", &lines, "--tokenizer", "bytes", "-o", &stats], 2);
    assert!(found.contains("its own tokenizer; leave --tokenizer out"), "{found}");
    let found = error(&["calibrate", "--merge", &lines, "-o", &stats], 1);
    assert!(found.contains("lines.txt"), "{found}");
    fs::remove_file(files.file("bert/tokenizer.json")).unwrap();
    let found = error(&["calibrate", &bert, "--text", &lines, "-o", &stats], 1);
    assert!(found.contains("tokenizer.json"), "{found}");
}
