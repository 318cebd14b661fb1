//! The messages that the book's page on troubleshooting quotes are those that the library gives.
//!
//! Each failure is provoked here through the public interface. A heading of the page fits a message if it is the same text, where `…`
//! stands for any.

use burn::tensor::{Device, Int, Tensor};
use burn_structured::checkpoint::Checkpoint;
use burn_structured::compress::CompressError;
use burn_structured::compress::pipeline::{Event, LayerwiseConfig, Output, compress_checkpoint};
use burn_structured::compress::plan::{Plan, PlanConfig, propose};
use burn_structured::models::decoder::Decoder;
use burn_structured::models::decoder::generate::{GenerationConfig, Generator};
use burn_structured::models::gpt2::{Gpt2, Gpt2Config};
use burn_structured::models::llama::Llama;
use burn_structured::models::text::Tokenizer;
use burn_structured::nn::{Structure, StructuredLinearConfig};
use burn_structured::train::data::{CifarKind, cifar};
use burn_structured::train::device;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::Path;

/// The messages in the headings `### ``…`` `.
fn quoted() -> Vec<String> {
    let page = std::fs::read_to_string("book/src/troubleshooting.md").expect("the page");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    headings.map(|heading| heading.trim_matches('`').trim().to_string()).collect()
}

/// Whether `message` is `pattern` with any text in the place of each `…`.
fn fits(pattern: &str, message: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    let Some(mut rest) = message.strip_prefix(first) else { return false };
    if parts.len() == 1 {
        return rest.is_empty();
    }
    for part in &parts[1..parts.len() - 1] {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

fn error<T, E: Display>(result: Result<T, E>) -> String {
    result.err().expect("a failure").to_string()
}

fn layer(structure: &str) -> StructuredLinearConfig {
    StructuredLinearConfig::new(768, 3072, structure.parse().expect("a structure"))
}

fn layers() -> Vec<String> {
    let device = Device::flex();
    let kronecker = StructuredLinearConfig::new(16, 16, "kronecker:r=2".parse().expect("a structure")).init(&device);
    vec![
        error("monarc".parse::<Structure>()),
        error(layer("blast:b=5").try_init(&device)),
        error(layer("low-rank:r=900").try_init(&device)),
        error(layer("low-rank:ratio=0.001").try_init(&device)),
        error(kronecker.quantize()),
        error(device::from_name("tpu")),
    ]
}

/// A GPT-2 of two blocks in `folder/model`.
fn gpt2(folder: &Path) -> Gpt2 {
    let model = Gpt2Config::nano(32).with_depth(2).init(&Device::flex());
    model.save_folder(folder.join("model"), None).expect("saved");
    model
}

fn models(folder: &Path) -> Vec<String> {
    let device = Device::flex();
    let model = gpt2(folder);
    let mut cache = model.cache(128);
    let long = Tensor::<2, Int>::zeros([1, 65], &device);
    let context = error(model.forward_cached(long, &mut cache));
    let bytes = Tokenizer::bytes();
    let writer = Gpt2Config::nano(256).with_depth(1).init(&device);
    let hundred = GenerationConfig::new().with_tokens(100);
    let full = error(Generator::new(&writer, &bytes).expect("a vocabulary").generate(&["The"], &hundred, |_, _| ()));

    let config = folder.join("model/config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let deeper = text.replace("\"n_layer\": 2", "\"n_layer\": 3");
    assert_ne!(deeper, text, "{text}");
    std::fs::write(&config, deeper).expect("written");
    let lacking = error(Gpt2::from_folder(folder.join("model"), &device));
    std::fs::write(&config, "{\"model_type\": \"mistral\"}").expect("written");
    vec![context, full, lacking, error(Llama::from_folder(folder.join("model"), &device))]
}

fn files(folder: &Path) -> Vec<String> {
    let file = folder.join("model.safetensors");
    let with = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        error(Checkpoint::open(&file))
    };
    let pointer = with(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    let mut short = 1000u64.to_le_bytes().to_vec();
    short.resize(100, b' ');
    let empty = folder.join("model");
    std::fs::create_dir(&empty).expect("a folder");
    let images = error(cifar::load(folder, CifarKind::Cifar10));
    vec![
        pointer,
        with(&short),
        error(Checkpoint::open(&empty)),
        images.replace(&folder.display().to_string(), "images"),
    ]
}

fn compression(folder: &Path) -> Vec<String> {
    gpt2(folder);
    let source = Checkpoint::open(folder.join("model")).expect("the model");
    let plan = |pattern: &str, rank: usize| {
        let rule = format!("[[rule]]\npattern = '{pattern}'\nstructure = 'low-rank:r={rank}'\n");
        Plan::from_toml(&format!("format = 1\n{rule}")).expect("a plan")
    };
    let output = Output::new(folder.join("small"));
    let run = |source: &Checkpoint, plan: &Plan, stop: bool| -> Result<(), CompressError> {
        let observer = &mut |event: &Event<'_>| match event {
            Event::Layer { .. } if stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let device = Device::flex();
        compress_checkpoint(source, plan, None, &LayerwiseConfig::new(), &output, &device, observer).map(drop)
    };
    let nothing = error(run(&source, &plan("encoder", 4), false));
    let proposed = |target: f64, structure: &str| {
        let config = PlanConfig::new(target).with_structures(vec![structure.parse().expect("a structure")]);
        let found = propose(&source, &config, None, &Device::flex(), &mut |_| ControlFlow::Continue(()));
        error(found.map(|found| found.share))
    };
    let (target, misfit) = (proposed(0.001, "low-rank"), proposed(0.5, "blast:b=5"));

    let interrupted = error(run(&source, &plan("mlp", 4), true));
    assert!(interrupted.starts_with("interrupted"), "{interrupted}");
    let changed = error(run(&source, &plan("mlp", 5), false));
    run(&source, &plan("mlp", 4), false).expect("compressed");
    let exists = error(run(&source, &plan("mlp", 5), false));
    let small = Checkpoint::open(folder.join("small")).expect("the result");
    vec![nothing, target, misfit, changed, exists, error(run(&small, &plan("mlp", 4), false))]
}

#[test]
fn quoted_messages_are_those_of_the_library() {
    let folders: [fn(&Path) -> Vec<String>; 3] = [models, files, compression];
    let mut messages = layers();
    for provoke in folders {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR);
        messages.extend(provoke(folder.path()).iter().map(|message| message.replace(&prefix, "")));
    }
    let quoted = quoted();
    for pattern in &quoted {
        assert!(messages.iter().any(|message| fits(pattern, message)), "nothing gives: {pattern}\n{messages:#?}");
    }
    for message in &messages {
        assert!(quoted.iter().any(|pattern| fits(pattern, message)), "the page lacks: {message}");
    }
}

#[test]
fn ellipsis_stands_for_any_text() {
    assert!(fits("a … c", "a b c") && fits("a", "a") && fits("a…", "ab") && fits("… of …; b", "1 of 2; b"));
    assert!(!fits("a … c", "a b d") && !fits("a", "ab") && !fits("a …", "b"));
}
