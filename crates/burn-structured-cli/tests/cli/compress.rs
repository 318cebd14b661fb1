//! `compress`, undisturbed.

use crate::fixture::{Fixture, bytes_of, lasting};
use crate::process::{command, error, json, printed, text};
use std::fs;

#[test]
fn compress_writes_a_whole_model_layer_by_layer() {
    let files = Fixture::new();
    for (model, layers) in [("bert", 11), ("gpt2", 8), ("llama", 14), ("other.safetensors", 2)] {
        let output = format!("small-{model}");
        let plan = if model.starts_with("other") { "other.toml" } else { "plan.toml" };
        fs::write(
            files.file("other.toml"),
            "format = 1\n[[rule]]\npattern = 'mlp'\nstructure = 'low-rank:ratio=0.5'\n",
        )
        .unwrap();
        let arguments = ["compress", &files.path(model), "--plan", &files.path(plan), "-o", &files.path(&output)];
        let value = json(&arguments);
        let compressed =
            value["report"]["layers"].as_array().unwrap().iter().filter(|layer| !layer["structure"].is_null());
        assert_eq!(compressed.count(), layers);
        let inspected = json(&["inspect", &files.path(&output)]);
        assert_eq!(inspected["compressed"]["layers"].as_object().unwrap().len(), layers);
        assert_eq!(inspected["totals"]["compressed_layers"], layers);
        assert!(!files.file(&format!("{output}.partial")).exists());
        assert!(files.file(&output).join("report.json").is_file());
    }
    for name in ["config.json", "tokenizer.json"] {
        assert_eq!(
            fs::read(files.file("bert").join(name)).unwrap(),
            fs::read(files.file("small-bert").join(name)).unwrap()
        );
    }
}

#[test]
fn compress_goes_block_after_block_with_text() {
    let files = Fixture::new();
    let output = command(&files.blockwise("small")).output().unwrap();
    let (printed, progress) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{progress}");
    assert!(printed.contains("encoder.layer.1.output.dense") && printed.contains("distilled in 4 steps"), "{printed}");
    assert!(printed.contains("next: burn-structured verify"), "{printed}");
    assert!(progress.contains("1/3 block-000: ") && progress.contains("3/3 distilled: "), "{progress}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(files.file("small/report.json")).unwrap()).unwrap();
    assert_eq!(report["blocks"][1]["refinement"]["steps"], 4);

    let gpt2 = [
        "compress",
        &files.path("gpt2"),
        "--plan",
        &files.path("plan.toml"),
        "--text",
        &files.path("lines.txt"),
        "--alphas",
        "0.25",
        "--refine-steps",
        "2",
        "--distill-steps",
        "2",
        "-o",
        &files.path("small-gpt2"),
    ];
    let value = json(&gpt2);
    assert_eq!(value["report"]["blocks"][0]["alpha"], 0.25);
    assert_eq!(value["report"]["distillation"]["steps"], 2);
    // Both load into the models again.
    let pairs = files.path("pairs.csv");
    json(&["eval", &files.path("small"), "--sts", &pairs]);
    json(&["eval", &files.path("small-gpt2"), "--text", &files.path("lines.txt")]);
}

#[test]
fn compress_turns_minutes_into_steps() {
    let files = Fixture::new();
    let value = json(&[
        "compress",
        &files.path("bert"),
        "--plan",
        &files.path("plan.toml"),
        "--text",
        &files.path("lines.txt"),
        "--refine",
        "0.02",
        "--distill",
        "0.02",
        "-o",
        &files.path("small"),
    ]);
    let steps = value["report"]["blocks"][0]["refinement"]["steps"].as_u64().unwrap();
    assert!(steps > 0);
    assert_eq!(value["report"]["blocks"][1]["refinement"]["steps"], steps);
    assert!(value["report"]["distillation"]["steps"].as_u64().unwrap() > 0);
}

#[test]
fn compress_uses_statistics() {
    let files = Fixture::new();
    let (bert, plan, stats) = (files.path("bert"), files.path("plan.toml"), files.path("stats"));
    printed(&["calibrate", &bert, "--text", &files.path("lines.txt"), "-o", &stats]);
    let value = json(&["compress", &bert, "--plan", &plan, "--calibration", &stats, "-o", &files.path("calibrated")]);
    let layer = &value["report"]["layers"][1];
    assert!(layer["output_error"].as_f64().unwrap() <= layer["weight_error"].as_f64().unwrap());
    files.compress("bert", "plain");
    assert_ne!(lasting(&files.file("plain")), lasting(&files.file("calibrated")));
}

#[test]
fn compress_repeats_itself() {
    let files = Fixture::new();
    let outputs = ["one", "two"].map(|output| {
        printed(&files.blockwise(output));
        lasting(&files.file(output))
    });
    assert!(outputs[0] == outputs[1], "two runs differ");
}

#[test]
fn compress_replaces_an_output_only_when_forced() {
    let files = Fixture::new();
    files.compress("bert", "small");
    let before = bytes_of(&files.file("small"));
    let (bert, plan, small) = (files.path("bert"), files.path("plan.toml"), files.path("small"));
    fs::write(&plan, "format = 1\n[[rule]]\npattern = 'query'\nstructure = 'low-rank:r=2'\n").unwrap();
    let arguments = ["compress", &bert, "--plan", &plan, "-o", &small];
    let found = error(&arguments, 1);
    assert!(found.contains("small exists") && found.contains("--force"), "{found}");
    assert_eq!(bytes_of(&files.file("small")), before);
    let value = json(&[&arguments[..], &["--force"]].concat());
    assert_eq!(value["report"]["layers"][0]["structure"], "low-rank:r=2");
    assert!(!files.file("small.partial").exists());
}

#[test]
fn compress_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, plan, small, lines) =
        (files.path("bert"), files.path("plan.toml"), files.path("small"), files.path("lines.txt"));
    let nothing = files.path("nothing.toml");
    fs::write(&nothing, "format = 1\n[[rule]]\npattern = 'nowhere'\nstructure = 'low-rank:r=2'\n").unwrap();
    fs::write(files.file("one.txt"), "a dog runs\n").unwrap();
    let (one, other) = (files.path("one.txt"), files.path("other.safetensors"));
    for (model, plan, more, message) in [
        (&bert, &files.path("missing.toml"), &[][..], "missing.toml"),
        (&bert, &nothing, &[], "replaces none of the 12 linear layers"),
        (&files.path("missing"), &plan, &[], "missing"),
        (&bert, &plan, &["--device", "abacus"], "unknown device `abacus`"),
        (&bert, &plan, &["--calibration", "/no/such/stats"], "/no/such/stats"),
        (&bert, &plan, &["--text", "/no/such/text"], "/no/such/text"),
        (&bert, &plan, &["--text", &one], "has 1 lines"),
        (&other, &nothing, &["--text", &lines], "no BERT encoder, GPT-2 or Llama"),
    ] {
        let found = error(&[&["compress", model, "--plan", plan, "-o", &small][..], more].concat(), 1);
        assert!(found.contains(message), "{found}\ninstead of: {message}");
        assert!(!files.file("small").exists());
    }
    // What is compressed cannot be compressed again.
    files.compress("bert", "small");
    let found = error(&["compress", &small, "--plan", &plan, "-o", &files.path("smaller")], 1);
    assert!(found.contains("compressed already"), "{found}");
}
