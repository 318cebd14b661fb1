//! Compresses a pretrained sentence encoder by several structures, fine-tunes each on scored sentence pairs, and compares scores,
//! parameters and times with the dense one, which is fine-tuned alike.
//!
//! ```text
//! cargo run --release --features compress,tokenizers --example fine_tune_encoder -- --model all-MiniLM-L6-v2 --sts sts-dev.csv
//! cargo run --release --features compress,tokenizers --example fine_tune_encoder -- … --compare dense,blast:b=6,ratio=0.3 --keep-dense 8 --epochs 6 --seeds 3
//! ```
//!
//! The model is a Hugging Face folder with a BERT encoder: `config.json`, `model.safetensors`, `tokenizer.json`. The pairs are split
//! into some to calibrate and train on and others to score, without a sentence in both.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod compress;
#[path = "../shared/ctrl_c.rs"]
mod ctrl_c;
#[path = "../../benches/harness/mod.rs"]
mod harness;
mod latency;
#[path = "../shared/progress.rs"]
mod progress;
#[path = "../shared/structures.rs"]
mod structures;

use arguments::Arguments;
use burn_structured::models::bert::{Bert, SentenceEncoder};
use burn_structured::nn::Structure;
use burn_structured::train::comparison::{FineTuningReport, FineTuningRow, FineTuningRun};
use burn_structured::train::device;
use burn_structured::train::sentences::{FineTuned, TokenPairs, fine_tune};
use burn_structured::train::similarity::SentencePairs;
use burn_structured::train::training::Interrupter;
use clap::Parser;
use compress::{Calibration, Compressed, check_fits, evenly};
use harness::machine::Machine;
use harness::provenance::{Tree, command_line, may_record, now, program};
use latency::latencies;
use mimalloc::MiMalloc;
use progress::progress;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The pairs to train on and those to score.
struct Pairs {
    train: TokenPairs,
    test: TokenPairs,
}

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let tree = Tree::now();
    may_record(&arguments.out.join("fine-tuning.json"), &tree)?;
    let device = device::from_name(&arguments.device)?;
    let dense = SentenceEncoder::from_folder(&arguments.model, &device)?;
    let pairs = SentencePairs::from_file(&arguments.sts)?;
    let [train, test] = pairs.split(arguments.train_share, arguments.split_seed)?;
    // Report what cannot work before anything takes long.
    arguments.check(&dense.model)?;
    arguments.config(0).check()?;
    for structure in arguments.structures() {
        check_fits(&dense.model, structure)?;
    }
    let tokens = |pairs: &SentencePairs| TokenPairs::try_new(pairs, &dense.tokenizer);
    let pairs = Pairs { train: tokens(&train)?, test: tokens(&test)? };
    pairs.test.spearman(&dense.model)?;
    println!("{} pairs to train on, {} to score; device: {}", pairs.train.len(), pairs.test.len(), arguments.device);

    let compressed = compress_all(arguments, &dense.model, &pairs.train)?;
    let interrupter = Interrupter::new();
    ctrl_c::stop_on_ctrl_c(&interrupter)?;
    let (mut rows, mut models) = (Vec::new(), Vec::new());
    for (structure, compressed) in arguments.structures().into_iter().zip(compressed) {
        let Some((row, model)) = tune(arguments, structure, compressed, &pairs, &interrupter)? else {
            println!(
                "\ninterrupted while fine-tuning {structure}; the models before it are in {}",
                arguments.out.display()
            );
            return Ok(ExitCode::from(130));
        };
        let encoder = SentenceEncoder { model, tokenizer: dense.tokenizer.clone() };
        encoder.save_folder(arguments.folder(structure))?;
        rows.push(row);
        models.push(encoder.model);
    }

    let sentences = pairs.test.sentences.concat();
    let (sizes, seconds) = (&arguments.latency_batches, arguments.latency_seconds);
    let times = latencies(&models, &sentences, pairs.test.pad_id, sizes, seconds);
    rows.iter_mut().zip(times).for_each(|(row, times)| row.latencies = times);
    let report = FineTuningReport {
        program: program(&tree),
        measured: now(),
        command: command_line("cargo run --release --example fine_tune_encoder"),
        machine: Machine::here().line(),
        model: name(&arguments.model),
        pairs: name(&arguments.sts),
        train_pairs: pairs.train.len(),
        test_pairs: pairs.test.len(),
        split_seed: arguments.split_seed,
        calibration_sentences: arguments.calibration_sentences.min(2 * pairs.train.len()),
        device: arguments.device.clone(),
        config: arguments.config(0),
        rows,
    };
    println!("\n{report}");
    let [json, scores, latency] = report.save(&arguments.out)?;
    println!(
        "saved {}, {} and {}, and the models in folders beside them",
        json.display(),
        scores.display(),
        latency.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The encoder in every structure.
fn compress_all(arguments: &Arguments, dense: &Bert, train: &TokenPairs) -> Result<Vec<Compressed>, Box<dyn Error>> {
    let sentences = train.sentences.concat();
    let calibrating = evenly(&sentences, arguments.calibration_sentences);
    let trials = evenly(&sentences, arguments.sensitivity_sentences);
    let bar = progress(0, "batches")?.with_message("calibration");
    let calibration = Calibration::new(dense, calibrating, trials, &bar)?;
    bar.finish_and_clear();
    let mut all = Vec::new();
    for structure in arguments.structures() {
        let bar = progress(0, "layers")?.with_message(structure.to_string());
        let compressed = calibration.compress(dense, structure, arguments.keep(dense), &bar)?;
        bar.finish_and_clear();
        if structure != Structure::Dense {
            println!(
                "{structure}: {:.1} % of the linear layers' parameters, relative error of a layer {:.3}, {:.0} s; dense: {}",
                100.0 * compressed.model.cost().params_ratio(),
                compressed.layer_error,
                compressed.seconds,
                if compressed.dense_layers.is_empty() { "none".into() } else { compressed.dense_layers.join(", ") }
            );
        }
        all.push(compressed);
    }
    Ok(all)
}

/// Fine-tunes a compressed encoder with every seed; the figures without times, and the model of the first seed. `None` after Ctrl-C.
fn tune(
    arguments: &Arguments,
    structure: Structure,
    compressed: Compressed,
    pairs: &Pairs,
    interrupter: &Interrupter,
) -> Result<Option<(FineTuningRow, Bert)>, Box<dyn Error>> {
    let Compressed { model, dense_layers, layer_error, seconds } = compressed;
    let (cost, before) = (model.cost(), pairs.test.spearman(&model)?);
    let (mut runs, mut first) = (Vec::new(), None);
    for seed in 0..arguments.seeds {
        let bar = progress(0, "steps")?;
        let tuned = fine_tune(model.clone(), &pairs.train, &pairs.test, &arguments.config(seed), |step| {
            bar.set_length(step.steps as u64);
            bar.set_position(step.step as u64);
            bar.set_message(format!("{structure}  loss {:.4}", step.loss));
            if interrupter.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let FineTuned { model, epochs, seconds, stopped } = tuned.map_err(|error| format!("{structure}: {error}"))?;
        let Some(last) = epochs.last().filter(|_| !stopped) else { return Ok(None) };
        let spearman = last.spearman;
        println!(
            "{structure}: Spearman's correlation × 100 is {:.2} before and {:.2} after {seconds:.0} s, seed {seed}",
            100.0 * before,
            100.0 * spearman
        );
        runs.push(FineTuningRun { seed, epochs, spearman, seconds });
        first.get_or_insert(model);
    }
    let row = FineTuningRow {
        structure,
        dense_layers,
        params: cost.params,
        params_ratio: cost.params_ratio(),
        flops_ratio: cost.flops_ratio(),
        layer_error,
        before,
        runs,
        latencies: Vec::new(),
        compression_seconds: seconds,
    };
    Ok(first.map(|model| (row, model)))
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
