//! What each line of the transformer block in the book gains: the block as it is, without one line at a time, and without all of them.
//!
//! ```text
//! cargo bench --bench block
//! cargo bench --bench block -- --structure blast:b=6,ratio=0.5 --seconds 1
//! ```
//!
//! In place of a line stands what one writes with Burn alone. All variants take turns. `cargo test --bench block` runs a tiny block
//! instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod record;
mod variant;

#[path = "../harness/mod.rs"]
mod harness;

use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::nn::{Structure, on_pool};
use clap::Parser;
use harness::file::write;
use harness::machine::Machine;
use harness::measure::{Effort, Time, Work, measure};
use harness::provenance::{Tree, command, may_record, now, program};
use record::{FORMAT, Results, Row, line};
use std::path::PathBuf;
use std::process::ExitCode;
use variant::{Block, Line};

/// Features, heads, sequences and tokens of each: a sentence, a batch of sentences, and a prompt.
const SIZES: [[usize; 4]; 3] = [[384, 12, 1, 16], [384, 12, 32, 16], [768, 12, 1, 512]];

/// Times the transformer block of the book without each of its lines, on Flex.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench block --", version, max_term_width = 120)]
struct Arguments {
    /// The structure of all linear layers
    #[arg(long, default_value = "blast:b=6,ratio=0.5")]
    structure: Structure,
    /// Seconds to spend on each figure
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Write block.json to this folder; benches/results takes figures of a clean commit only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let outcome = if harness::is_a_test() { test() } else { run(&Arguments::parse(), &SIZES).map(|_| ()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, sizes: &[[usize; 4]]) -> Result<Results, String> {
    let tree = Tree::now();
    let file = arguments.out.as_ref().map(|folder| folder.join("block.json"));
    file.iter().try_for_each(|file| may_record(file, &tree))?;
    let mut results = Results {
        format: FORMAT,
        program: program(&tree),
        command: command("block"),
        measured: now(),
        machine: Machine::here(),
        structure: arguments.structure.to_string(),
        seconds: arguments.seconds,
        rows: Vec::new(),
    };
    print!("{}", record::head(&results));
    for size in sizes {
        for training in [false, true] {
            let times = measure_block(*size, training, arguments)?;
            let [d_model, heads, sequences, tokens] = *size;
            for ((without, _), time) in variants(training).into_iter().zip(times) {
                let row = Row { d_model, heads, sequences, tokens, training, without, time };
                let full = results.rows.iter().rfind(|other| other.without.is_empty() && !row.without.is_empty());
                print!("{}", line(&row, full.unwrap_or(&row)));
                results.rows.push(row);
            }
        }
    }
    if let Some(file) = &file {
        let text = serde_json::to_string_pretty(&results).expect("plain figures have a text form") + "\n";
        write(file, &text)?;
    }
    Ok(results)
}

/// The lines that each variant has, by what is missing: nothing first, everything last. Training is never on the pool.
fn variants(training: bool) -> Vec<(String, Vec<Line>)> {
    let lines = || Line::ALL.into_iter().filter(|line| !(training && *line == Line::OnPool));
    let mut variants = vec![(String::new(), lines().collect())];
    variants.extend(lines().map(|missing| (missing.name().into(), lines().filter(|line| *line != missing).collect())));
    variants.push(("all of them".into(), Vec::new()));
    variants
}

fn measure_block(
    [d_model, heads, sequences, tokens]: [usize; 4],
    training: bool,
    arguments: &Arguments,
) -> Result<Vec<Time>, String> {
    let device = Device::flex();
    device.seed(0);
    let device = if training { device.autodiff() } else { device };
    let block = Block::try_new(d_model, heads, arguments.structure, &device).map_err(|error| error.to_string())?;
    let x = Tensor::<3>::random([sequences, tokens, d_model], Distribution::Normal(0.0, 1.0), &device);
    let mut works = Vec::new();
    for (_, lines) in variants(training) {
        let (block, x, device) = (block.clone(), x.clone(), device.clone());
        works.push(Work::new(move || {
            if training {
                let gradients = block.forward(x.clone().require_grad(), &lines).sum().backward();
                drop(std::hint::black_box(gradients));
            } else if lines.contains(&Line::OnPool) {
                drop(std::hint::black_box(on_pool(&device, || block.forward(x.clone(), &lines))));
            } else {
                drop(std::hint::black_box(block.forward(x.clone(), &lines)));
            }
        }));
    }
    Ok(measure(&mut works, Effort { seconds: arguments.seconds, fewest: 9, most: 4000, calls: 1 }))
}

/// A tiny block, briefly: whether all variants compute the same, not how fast anything is.
fn test() -> Result<(), String> {
    let device = Device::flex();
    device.seed(1);
    let structure: Structure = "blast:b=2,r=4".parse().map_err(|error| format!("{error}"))?;
    let block = Block::try_new(16, 2, structure, &device).map_err(|error| error.to_string())?;
    let x = Tensor::<3>::random([2, 5, 16], Distribution::Normal(0.0, 1.0), &device);
    let expected = block.forward(x.clone(), &[]);
    for (without, lines) in variants(false) {
        let difference = (block.forward(x.clone(), &lines) - expected.clone()).abs().max().into_scalar::<f32>();
        // Sums of at most 64 terms of ordinary size.
        if difference.is_nan() || difference > 64.0 * f32::EPSILON * 8.0 {
            return Err(format!("without {without}: differs by {difference}"));
        }
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let arguments = "block --bench --structure blast:b=2,r=4 --seconds 0.01";
    let arguments = Arguments::try_parse_from(arguments.split(' ').chain(["--out", out]));
    let results = run(&arguments.map_err(|error| error.to_string())?, &[[16, 2, 2, 5]])?;
    let text = std::fs::read_to_string(folder.path().join("block.json")).map_err(|error| error.to_string())?;
    let read: Results = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match read.rows.iter().filter(|row| row.time.median_ms > 0.0).count() {
        11 if results.rows.len() == 11 => Ok(()),
        count => Err(format!("{count} rows: {:?}", read.rows)),
    }
}
