//! The example as a user runs it: what it trains, compares and compresses, its errors, and what a kill leaves behind.

use crate::process::{assert_one_error, example, kill_after, printed, text};
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

/// A model that takes no time.
const TINY: [&str; 14] = [
    "--depth",
    "2",
    "--heads",
    "2",
    "--features",
    "16",
    "--context",
    "16",
    "--batch-size",
    "4",
    "--eval-batches",
    "2",
    "--sample-tokens",
    "20",
];

fn run(arguments: &[&str], out: &Path) -> Output {
    example("gpt2_text").args(arguments).arg("--out").arg(out).output().expect("the example was built")
}

/// Runs with a tiny model.
fn tiny(arguments: &[&str], out: &Path) -> Output {
    run(&[&TINY, arguments].concat(), out)
}

/// Writes a text that is easy to learn, and returns its path.
fn story(folder: &Path) -> String {
    let path = folder.join("story.txt");
    fs::write(&path, "The quick brown fox jumps over the lazy dog. ".repeat(60)).unwrap();
    path.to_str().unwrap().to_string()
}

fn losses(out: &Path) -> String {
    fs::read_to_string(out.join("losses.csv")).unwrap()
}

#[test]
fn built_in_text_trains_a_model_that_generates() {
    let folder = tempfile::tempdir().unwrap();
    let output = tiny(&["--steps", "10"], folder.path());
    let stdout = printed(&output);
    assert!(stdout.starts_with("data: built-in text, "), "{stdout}");
    assert!(stdout.contains("(the documentation of this repository, which is tiny; "), "{stdout}");
    assert!(stdout.contains("| dense ") && stdout.contains("sample: The "), "{stdout}");
    let progress = text(&output.stderr);
    for word in ["step 10/10", "perplexity", "tokens/s", "sample after step 10: The "] {
        assert!(progress.contains(word), "{progress}");
    }
    for file in ["model.safetensors", "config.json", "text.json", "losses.csv", "validation.csv", "result.json"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    assert_eq!(losses(folder.path()).lines().count(), 11);
    let generate = |model: &Path| {
        let command = ["--tokens", "5", "--prompt", "The ", "--model"];
        example("generate").args(command).arg(model).output().expect("the example was built")
    };
    assert!(printed(&generate(folder.path())).starts_with("The "));

    // A second run replaces the first one only when asked to.
    let again = tiny(&["--steps", "5"], folder.path());
    assert!(text(&again.stderr).contains("holds a finished run; replace it with --fresh"), "{}", text(&again.stderr));
    assert!(printed(&generate(folder.path())).starts_with("The "));
    printed(&tiny(&["--steps", "5", "--fresh"], folder.path()));
    assert_eq!(losses(folder.path()).lines().count(), 6);
}

#[test]
fn killed_run_resumes_step_for_step() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let [undisturbed, killed] = ["undisturbed", "killed"].map(|name| folder.path().join(name));
    let long = ["--text", &story, "--structure", "blast:b=2,r=4", "--dropout", "0.1", "--steps", "1000"];
    let long = [&long[..], &["--eval-interval", "50"]].concat();
    printed(&tiny(&long, &undisturbed));
    let child = example("gpt2_text")
        .args([&TINY, &long[..]].concat())
        .arg("--out")
        .arg(&killed)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the example was built");
    let checkpoint = ["model", "optim", "scheduler"].map(|name| killed.join(format!("checkpoint/{name}-2.bpk")));
    kill_after(child, &checkpoint);

    let unfinished = tiny(&long, &killed);
    assert!(text(&unfinished.stderr).contains("continue it with --resume"), "{}", text(&unfinished.stderr));
    let other = tiny(&[&long[..], &["--lr", "0.01", "--resume"]].concat(), &killed);
    assert!(text(&other.stderr).contains("recipe.lr was 0.001, now 0.01"), "{}", text(&other.stderr));

    let resumed = tiny(&[&long[..], &["--resume"]].concat(), &killed);
    assert!(!text(&resumed.stderr).contains("step 50/1000"), "{}", text(&resumed.stderr));
    let perplexity = |output: &str| {
        output
            .lines()
            .find(|line| line.starts_with("| blast"))
            .map(|line| line.split('|').nth(4).expect("the fourth column").trim().to_string())
    };
    assert_eq!(losses(&killed), losses(&undisturbed));
    // Tables of both runs: the second one is finished, and only read.
    let again = tiny(&[&long[..], &["--resume"]].concat(), &undisturbed);
    assert_eq!(perplexity(&printed(&resumed)), perplexity(&printed(&again)));
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&killed) == weights(&undisturbed), "the weights differ");
}

#[test]
fn comparison_writes_table_json_and_plot() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let search = ["--lr-search", "3e-3,1e-5", "--search-steps", "20"];
    let compare = ["--text", &story, "--compare", "dense,mlp=blast:b=2,r=2", "--seeds", "1,2", "--steps", "30"];
    let arguments = [&compare[..], &search].concat();
    let stdout = printed(&tiny(&arguments, folder.path()));
    for line in ["dense, lr 0.003: loss ", "dense, lr 0.00001: loss ", "| mlp=blast:b=2,r=2 ", "| dense ", " ± "] {
        assert!(stdout.contains(line), "{stdout}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("comparison.json")).unwrap()).unwrap();
    assert_eq!(json["rows"][1]["runs"].as_array().unwrap().len(), 2);
    assert_eq!(json["rows"][0]["lr"], 0.003);
    assert!(json["rows"][1]["relative_flops"].as_f64().unwrap() < 1.0);
    let svg = fs::read_to_string(folder.path().join("comparison.svg")).unwrap();
    assert!(svg.contains("perplexity") && svg.contains("mlp=blast:b=2,r=2"), "{svg}");

    // What is there already is not trained again.
    let trained = folder.path().join("dense/seed-2/model.bpk");
    let before = fs::metadata(&trained).unwrap().modified().unwrap();
    let again = tiny(&[&arguments[..], &["--resume"]].concat(), folder.path());
    assert!(printed(&again).contains("| dense "));
    assert!(!text(&again.stderr).contains("training dense"), "{}", text(&again.stderr));
    assert_eq!(fs::metadata(&trained).unwrap().modified().unwrap(), before);
}

#[test]
fn prepared_tokens_train_like_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let from_text = folder.path().join("from-text");
    let training = ["--steps", "5"];
    printed(&tiny(&[&["--text", &story, "--tokenizer", "chars"], &training[..]].concat(), &from_text));
    for format in ["nanogpt", "llmc"] {
        let tokens = folder.path().join(format);
        let arguments = ["--text", &story, "--tokenizer", "chars", "--prepare", "--format", format];
        let stdout = printed(&run(&arguments, &tokens));
        assert!(stdout.contains("2430 training and 270 validation tokens"), "{stdout}");
        let [train, valid] = ["train.bin", "valid.bin"].map(|name| tokens.join(name).to_str().unwrap().to_string());
        let from_tokens = folder.path().join(format!("from-{format}"));
        let files = ["--train-tokens", &train, "--valid-tokens", &valid];
        printed(&tiny(&[&files, &training[..]].concat(), &from_tokens));
        assert_eq!(losses(&from_tokens), losses(&from_text));
    }
}

#[test]
fn dense_model_is_compressed_and_retrained() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let [dense, compressed, further] = ["dense", "compressed", "further"].map(|name| folder.path().join(name));
    printed(&tiny(&["--text", &story, "--steps", "200", "--lr", "3e-3"], &dense));
    let start = ["--text", &story, "--init-from", dense.to_str().unwrap(), "--batch-size", "4", "--sample-tokens", "0"];

    let compress = |budget: &str| {
        let structures = ["--compress", "low-rank:r=4", "--compress", "first=dense;mlp=blast:b=2,r=4"];
        let arguments = [&start[..], &structures, &["--lr", "1e-3", "--retrain", budget]].concat();
        printed(&run(&arguments, &compressed))
    };
    let stdout = compress("40steps");
    let report = fs::read_to_string(compressed.join("compression.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{stdout}");
    for row in rows {
        assert!(number(&row["layer_error"]) > 0.0 && number(&row["relative_flops"]) < 1.0, "{row}");
        assert!(number(&report["dense"]) < number(&row["compressed"]), "{report}");
        assert!(number(&row["retrained"]) < number(&row["compressed"]), "{row}");
        assert_eq!(row["retraining_steps"], 40);
    }
    assert!(compressed.join("compression.svg").is_file());
    assert!(stdout.contains("| low-rank:r=4 ") && stdout.contains("| not compressed "), "{stdout}");
    assert!(compress("1%").contains("(0 s)"));

    // The saved model is the retrained one, and can be trained further.
    let model = compressed.join("low-rank-r-4");
    let evaluate = ["--text", &story, "--init-from", model.to_str().unwrap(), "--evaluate"];
    assert!(printed(&run(&evaluate, &further)).contains("perplexity "));
    let training = ["--text", &story, "--init-from", model.to_str().unwrap(), "--steps", "5", "--batch-size", "4"];
    let stdout = printed(&run(&training, &further));
    assert!(stdout.contains("| low-rank:r=4 "), "{stdout}");
    assert!(further.join("model.safetensors").is_file());
}

#[test]
fn two_devices_give_the_losses_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let arguments = ["--text", &story, "--steps", "10"];
    let losses = |devices: &str| {
        let out = folder.path().join(devices);
        printed(&tiny(&[&arguments[..], &["--devices", devices]].concat(), &out));
        let losses = losses(&out);
        losses.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect::<Vec<f64>>()
    };
    let (one, two) = (losses("flex"), losses("flex,flex"));
    assert_eq!(one.len(), 10);
    for (one, two) in one.iter().zip(two) {
        assert!((one - two).abs() < 1e-4 * one, "{one} and {two}");
    }
}

#[test]
fn bad_input_is_one_error_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let story = story(folder.path());
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (empty, binary, short) =
        (path("empty.txt", b""), path("binary.txt", &[0x20, 0xff, 0xfe]), path("short.txt", b"Hi"));
    let (odd, large) = (path("odd.bin", &[1, 2, 3]), path("large.bin", &[0, 200].repeat(100)));
    for (arguments, message) in [
        (&["--text", &empty][..], "empty.txt is empty"),
        (&["--text", &binary], "bytes from position 1 are not UTF-8"),
        (&["--text", &short], "short.txt has 1 tokens, but at least"),
        (&["--text", "/no/such/file.txt"], "/no/such/file.txt"),
        (&["--valid-text", &story], "--valid-text needs --text"),
        (&["--train-tokens", &odd, "--valid-tokens", &odd], "odd.bin: 3 bytes"),
        (&["--train-tokens", &large, "--valid-tokens", &large, "--tokenizer", "bytes"], "token 51200 at position"),
        (
            &["--train-tokens", &large, "--valid-tokens", &large, "--tokenizer", "chars"],
            "are not known; give --tokenizer",
        ),
        (&["--tokenizer", "/no/such/tokenizer.json"], "cannot read /no/such/tokenizer.json"),
        (&["--structure", "blst"], "unknown structure `blst`; the structures are dense, blast"),
        (&["--structure", "blast:b=5"], "cannot be cut into 5"),
        (&["--structure", "h.9.mlp.c_fc=monarch"], "matches no layer"),
        (&["--compare", "blast:b=2,r=2,blast:b=2,r=2"], "would share the folder"),
        (&["--heads", "3"], "heads = 3 does not divide"),
        (&["--dropout", "1"], "dropout = 1"),
        (&["--context", "100000"], "tokens, but at least 100001 are needed"),
        (&["--batch-size", "0"], "batch size = 0"),
        (&["--lr", "7"], "lr = 7"),
        (&["--betas", "0.9"], "--betas needs two numbers"),
        (&["--optimizer", "sgd"], "unknown optimizer `sgd`"),
        (&["--dtype", "f8"], "unknown precision `f8`"),
        (&["--stride", "65"], "--stride 65 is more than the context of 64"),
        (&["--devices", "abacus"], "unknown device `abacus`; this build has flex"),
        (&["--devices", "flex,flex", "--batch-size", "3"], "batch size = 3"),
        (&["--text", &story, "--tokenizer", "chars", "--prompt", "Ω"], "--prompt: the character 'Ω'"),
        (&["--prompt", ""], "--prompt is empty"),
        (&["--init-from", "/no/such/model"], "/no/such/model"),
        (&["--init-from", "x", "--evaluate", "--seeds", "1,2"], "use one device and one seed"),
        (&["--compress", "blast"], "--init-from"),
        (&["--init-from", "x", "--compress", "blast", "--retrain", "soon"], "`soon` is no budget; write 10min, 90s"),
    ] {
        assert_one_error(&run(&[arguments, &["--steps", "2"]].concat(), &out), message, &out);
    }
}

#[test]
fn model_and_text_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let story = story(folder.path());
    let [characters, out] = ["characters", "out"].map(|name| folder.path().join(name));
    let small = ["--text", &story, "--tokenizer", "chars", "--steps", "2", "--structure", "low-rank:r=2"];
    printed(&tiny(&small, &characters));
    let start = ["--init-from", characters.to_str().unwrap(), "--text", &story];
    for (arguments, message) in [
        (&["--tokenizer", "bytes"][..], "the tokenizer has 256 tokens, more than the model's vocabulary of"),
        (&["--compress", "blast"], "h.0.attn.c_attn of"),
    ] {
        assert_one_error(&run(&[&start, arguments].concat(), &out), message, &out);
    }
    let same = run(&start, &characters);
    assert!(text(&same.stderr).contains("--init-from and --out are both"), "{}", text(&same.stderr));
    // A checkpoint of another shape.
    let config = characters.join("config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("\"n_embd\": 16", "\"n_embd\": 32")).unwrap();
    assert_one_error(
        &run(&start, &out),
        "the layer h.0.attn.c_attn is 16 → 48 instead of 32 → 96; do config.json",
        &out,
    );
}
