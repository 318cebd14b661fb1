//! Compresses a sentence encoder block after block, on raw text, and measures what is left on the STS benchmark.
//!
//! ```text
//! cargo run --release --features compress,tokenizers --example compress_encoder -- --model all-MiniLM-L6-v2 --text lines.txt --sts sts-dev.csv --out small
//! cargo run --release --features compress,tokenizers --example compress_encoder -- … --target 0.25 --refine-steps 400 --distill-steps 2000
//! ```
//!
//! The model is a Hugging Face folder with a BERT encoder: `config.json`, `model.safetensors`, `tokenizer.json`. The program
//! `burn-structured` does the same for any checkpoint, with more settings; this is the library behind it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

#[path = "shared/progress.rs"]
mod progress;

use burn_structured::checkpoint::Checkpoint;
use burn_structured::compress::Budget;
use burn_structured::compress::calibrate::Calibrator;
use burn_structured::compress::distill::DistillConfig;
use burn_structured::compress::pipeline::{BlockFormat, BlockwiseConfig, Event, Output, Texts, compress_model};
use burn_structured::compress::plan::{PlanConfig, propose};
use burn_structured::compress::refine::RefineConfig;
use burn_structured::models::bert::{Bert, SentenceEncoder, batches_of_one_length};
use burn_structured::nn::Structure;
use burn_structured::train::device;
use burn_structured::train::similarity::SentencePairs;
use clap::Parser;
use mimalloc::MiMalloc;
use progress::progress;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Compresses a BERT sentence encoder block after block, and measures the result on the STS benchmark.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder with config.json, model.safetensors and tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// Raw text, a sentence or a paragraph a line
    #[arg(long)]
    text: PathBuf,
    /// Lines of the text to use, from all over it
    #[arg(long, default_value_t = 1500)]
    lines: usize,
    /// Share of the linear layers' weights to keep
    #[arg(long, default_value_t = 0.5)]
    target: f64,
    /// Structures to choose from for each layer; repeat for several
    #[arg(long, default_value = "blast:b=6")]
    structure: Vec<Structure>,
    /// Training steps for each compressed block
    #[arg(long, default_value_t = 0)]
    refine_steps: usize,
    /// Training steps for the whole compressed model
    #[arg(long, default_value_t = 0)]
    distill_steps: usize,
    /// Sentence pairs in the layout of the STS benchmark, to measure Spearman's correlation on
    #[arg(long)]
    sts: Option<PathBuf>,
    /// Folder to write, complete or not at all; after an interruption the same command continues
    #[arg(long)]
    out: PathBuf,
    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    // Load the model, and every eighth line as held-out text.
    let device = device::from_name(&args.device)?;
    let source = Checkpoint::open(&args.model)?;
    let encoder = SentenceEncoder::from_folder(&args.model, &device)?;
    let model = &encoder.model;
    let tokens = encoder.tokenizer.tokens(&read_lines(args)?)?;
    let mut fingerprint = DefaultHasher::new();
    tokens.hash(&mut fingerprint);
    let (held_out, calibration): (Vec<_>, Vec<_>) = tokens.into_iter().enumerate().partition(|(line, _)| line % 8 == 0);
    let batches = |lines: Vec<(usize, Vec<u32>)>| {
        batches_of_one_length(lines.into_iter().map(|(_, tokens)| tokens).collect(), 32, &device)
    };
    let (calibration, held_out) = (batches(calibration), batches(held_out));

    // Calibrate: the second moments of every layer's inputs, by the names of the layers in the checkpoint.
    let bar = progress(calibration.len(), "batches")?;
    let mut moments = Calibrator::new();
    for batch in &calibration {
        moments.record_blocks(model, batch)?;
        bar.inc(1);
    }
    bar.finish_and_clear();

    // Plan: a structure and a rank for each layer.
    let bar = progress(model.linears().count(), "layers planned")?;
    let config = PlanConfig::new(args.target).with_structures(args.structure.clone()).uniform();
    let proposal = propose(&source, &config, Some(&moments), &device, &mut |step| {
        bar.set_position(step.done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    println!("{}", proposal.plan.to_toml());

    // Compress block after block, train each block and then the whole model if asked to, and save.
    let config = BlockwiseConfig::new()
        .with_refine((args.refine_steps > 0).then(|| RefineConfig::new().with_budget(Budget::Steps(args.refine_steps))))
        .with_distill(
            (args.distill_steps > 0).then(|| DistillConfig::new().with_budget(Budget::Steps(args.distill_steps))),
        );
    let format = BlockFormat {
        save: &|model: &Bert, block| Ok(model.block_weights(block, &source)?),
        load: &|model: &mut Bert, block, file| Ok(model.load_block(block, file)?),
    };
    let texts = Texts {
        calibration: &calibration,
        held_out: &held_out,
        distillation: &calibration,
        // Another version of Rust may hash otherwise; an interrupted run is then refused, not continued.
        fingerprint: format!("{:016x}", fingerprint.finish()),
    };
    let bar = progress(model.layers.len(), "units")?;
    let observer = &mut |event: &Event<'_>| {
        if let Event::Unit { index, units, name } = event {
            bar.set_length(*units as u64);
            bar.set_position(*index as u64);
            bar.set_message(name.to_string());
        }
        ControlFlow::Continue(())
    };
    let output = Output::new(&args.out).with_command("compress_encoder");
    let done = compress_model(&source, model, &format, &texts, &proposal.plan, &config, &output, &device, observer)?;
    bar.finish_and_clear();
    for block in &done.report.blocks {
        println!("block {}: relative error of its output {:.4}", block.block, block.output_error);
    }

    // Score: the folder that was written loads like any other.
    let small = SentenceEncoder::from_folder(&done.path, &device)?;
    let share = 100.0 * small.model.cost().params as f64 / model.cost().params as f64;
    println!("{}: {share:.1} % of the parameters of the linear layers", done.path.display());
    if let Some(path) = &args.sts {
        let pairs = SentencePairs::from_file(path)?;
        let [before, after] = [pairs.spearman(&encoder)?, pairs.spearman(&small)?].map(|score| 100.0 * score);
        println!("Spearman's correlation on {}: {before:.2} before, {after:.2} after", path.display());
    }
    Ok(())
}

/// Lines of text from all over the file.
fn read_lines(args: &Args) -> Result<Vec<String>, Box<dyn Error>> {
    let text = std::fs::read_to_string(&args.text).map_err(|error| format!("{}: {error}", args.text.display()))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let count = args.lines.min(lines.len());
    if count < 2 {
        return Err(format!("{}: two lines of text are needed at least", args.text.display()).into());
    }
    Ok((0..count).map(|line| lines[line * lines.len() / count].to_string()).collect())
}
