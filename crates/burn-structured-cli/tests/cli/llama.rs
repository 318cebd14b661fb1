//! A Llama goes through the commands as a GPT-2 does.

use crate::fixture::Fixture;
use crate::process::{error, json, printed};
use std::fs;

#[test]
fn llama_is_planned_compressed_verified_and_scored() {
    let files = Fixture::new();
    let [llama, lines, plan, small, dense] =
        ["llama", "lines.txt", "llama.toml", "small-llama", "dense-llama"].map(|name| files.path(name));
    let measured = ["--text", &lines, "--allocation", "effect", "--samples", "16"];
    let structures = ["--structure", "low-rank", "--structure", "blast:b=2"];
    let planned =
        json(&[&["plan", &llama, "--target-params", "0.6", "-o", &plan][..], &measured, &structures].concat());
    assert_eq!(planned["rows"].as_array().unwrap().len(), 14, "{planned}");

    let training = ["--refine-steps", "4", "--distill-steps", "4", "--samples", "16", "--distill-samples", "16"];
    let arguments = ["compress", &llama, "--plan", &plan, "--text", &lines, "-o", &small];
    let value = json(&[&arguments[..], &training].concat());
    assert_eq!(value["report"]["blocks"][1]["refinement"]["steps"], 4, "{value}");
    let distillation = &value["report"]["distillation"];
    assert_eq!(distillation["steps"], 4, "{value}");
    // It is on the distributions of the next token, which sentence encoders do not have.
    let [before, after] = [0, 1].map(|at| distillation["divergence"][at].as_f64().unwrap());
    assert!(before > 0.0 && after > 0.0, "{before} {after}");
    printed(&["verify", &small, "--dense", &llama]);

    json(&["to-dense", &small, "-o", &dense]);
    let scores = json(&["eval", &llama, &small, &dense, "--text", &lines]);
    let [original, small, dense] = [0, 1, 2].map(|model| scores["models"][model]["score"].as_f64().unwrap());
    assert!((small / dense - 1.0).abs() < 1e-4 && (small / original - 1.0).abs() > 1e-4, "{small} {dense} {original}");
}

#[test]
fn llama_is_calibrated() {
    let files = Fixture::new();
    let [llama, lines, plan, stats] = ["llama", "lines.txt", "plan.toml", "stats"].map(|name| files.path(name));
    let value = json(&["calibrate", &llama, "--text", &lines, "--samples", "8", "-o", &stats]);
    let layers = value["layers"].as_object().unwrap();
    assert_eq!((layers.len(), &layers["layers.1.self_attn.k_proj"]), (14, &(8 * 32).into()));
    printed(&["compress", &llama, "--plan", &plan, "--calibration", &stats, "-o", &files.path("small")]);
}

#[test]
fn llama_that_is_not_implemented_is_refused_by_name() {
    let files = Fixture::new();
    let config = files.file("llama/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["rope_scaling"] = serde_json::json!({"rope_type": "yarn", "factor": 8.0});
    fs::write(&config, json.to_string()).unwrap();
    let found = error(&["eval", &files.path("llama"), "--text", &files.path("lines.txt")], 1);
    assert!(
        found.contains("config.json: rope_scaling is yarn, but only default, linear or llama3 is implemented"),
        "{found}"
    );
    // Layer by layer, no code of the model runs.
    printed(&["compress", &files.path("llama"), "--plan", &files.path("plan.toml"), "-o", &files.path("small")]);
}
