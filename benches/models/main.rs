//! Whole models with structured layers beside the same models with dense ones: images, tokens or sentences a second in inference and
//! in training, and the memory that takes.
//!
//! ```text
//! cargo bench --features tokenizers --bench models
//! cargo bench --features tokenizers --bench models -- --workload vit-s --structure dense --structure blast:b=4,ratio=0.33
//! cargo bench --features tokenizers --bench models -- --workload minilm --minilm all-MiniLM-L6-v2 --compressed small --sentences sts-dev.csv
//! ```
//!
//! `--help` has the rest. `benches/external/models.py` runs the same models in other programs. `cargo test --bench models` runs tiny
//! models instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod heap;
mod images;
mod language;
mod passes;
mod record;
mod report;
mod sentences;
mod workload;

#[path = "../harness/mod.rs"]
mod harness;

use burn::tensor::Device;
use burn_structured::nn::Structure;
use burn_structured::train::device;
use clap::{Parser, ValueEnum};
use harness::file::write;
use harness::machine::Machine;
use harness::measure::{Effort, Work, measure};
use harness::provenance::{Tree, command, may_record, now, program};
use record::{FORMAT, Results, Row};
use std::path::PathBuf;
use std::process::ExitCode;
use workload::{NamedModel, Options, Pass, Workload, name};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Times whole models with structured layers beside dense ones, which take turns.
///
/// Training is forward, backward and a step of AdamW on random data. Memory is what a pass needs at most beyond the weights and
/// the optimizer's state.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --features tokenizers --bench models --", version, max_term_width = 120)]
struct Arguments {
    /// Devices, one table for all: flex, ndarray, cuda:0, … as compiled in by --features
    #[arg(long, value_delimiter = ',', default_value = "flex")]
    device: Vec<String>,
    /// The models [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Only these passes
    #[arg(long, value_enum, value_delimiter = ',')]
    pass: Vec<Pass>,
    /// The structure of all linear layers in the blocks; may be given repeatedly; the first is what others are compared to
    /// [default: dense, BLAST at half, of vision transformers also at a third, low rank at half]
    #[arg(long = "structure", value_name = "STRUCTURE")]
    structures: Vec<Structure>,
    /// The folder of all-MiniLM-L6-v2: config.json, model.safetensors, tokenizer.json [default: random weights, made-up words]
    #[arg(long, value_name = "DIR")]
    minilm: Option<PathBuf>,
    /// The same encoder compressed, which is measured in place of random weights of the same cost, or else by itself; may be given
    /// repeatedly
    #[arg(long, value_name = "DIR", requires = "minilm")]
    compressed: Vec<PathBuf>,
    /// Sentences for the encoder: one a line, or in columns 6 and 7 of tab-separated ones, as STS-Benchmark has them; 128 of them
    /// are used [default: made-up ones]
    #[arg(long, value_name = "FILE", requires = "minilm")]
    sentences: Option<PathBuf>,

    /// Measure inference of every model with int8 weights as well
    #[arg(long)]
    int8: bool,
    /// Seconds to spend on each figure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A tenth of the time and fewer rounds, to see that all is well
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write models.json to this folder; benches/results takes figures of a clean commit only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The smallest sizes, to see that the program works.
    #[arg(long, hide = true)]
    tiny: bool,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let outcome = if harness::is_a_test() { test() } else { run(&Arguments::parse()).map(|_| ()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Results, String> {
    let effort = match arguments.quick {
        true => Effort { seconds: arguments.seconds / 10.0, fewest: 3, most: 50, calls: 1 },
        false => Effort { seconds: arguments.seconds, fewest: 5, most: 100, calls: 1 },
    };
    let tree = Tree::now();
    let files: Vec<PathBuf> =
        arguments.json.iter().cloned().chain(arguments.out.iter().map(|folder| folder.join("models.json"))).collect();
    files.iter().try_for_each(|file| may_record(file, &tree))?;
    let mut results = Results {
        format: FORMAT,
        program: program(&tree),
        command: command("models"),
        measured: now(),
        machine: Machine::here(),
        seconds: effort.seconds,
        not_run: Vec::new(),
        rows: Vec::new(),
    };
    let workloads = if arguments.workload.is_empty() { Workload::value_variants() } else { &arguments.workload };
    print!("{}", report::head(&results));
    for workload in workloads {
        for name in &arguments.device {
            for passes in workload.passes() {
                let chosen = |pass: &Pass| arguments.pass.is_empty() || arguments.pass.contains(pass);
                let passes: Vec<Pass> = passes.iter().copied().filter(chosen).collect();
                if passes.is_empty() {
                    continue;
                }
                let rows = measure_models(*workload, &passes, name, arguments, effort)?;
                for row in &rows {
                    let first = rows.iter().find(|first| first.is_pass_of(row)).unwrap_or(row);
                    print!("{}", report::line(row, first));
                }
                results.rows.extend(rows);
            }
        }
        // A long run that is stopped has not run for nothing.
        for file in &files {
            let text = serde_json::to_string_pretty(&results).expect("plain figures have a text form") + "\n";
            write(file, &text)?;
        }
    }
    match results.rows.is_empty() {
        true => Err("nothing to measure: the models have none of these passes".into()),
        false => Ok(results),
    }
}

/// The rows of `passes`, all of whose structures take turns.
fn measure_models(
    workload: Workload,
    passes: &[Pass],
    device_name: &str,
    arguments: &Arguments,
    effort: Effort,
) -> Result<Vec<Row>, String> {
    let device = device::from_name(device_name).map_err(|error| error.to_string())?;
    let default = workload.structures();
    let structures = if arguments.structures.is_empty() { &default } else { &arguments.structures };
    let options = Options {
        minilm: arguments.minilm.clone(),
        compressed: arguments.compressed.clone(),
        sentences: arguments.sentences.clone(),
        int8: arguments.int8,
        tiny: arguments.tiny,
    };
    let (mut candidates, mut abouts) = (Vec::new(), Vec::new());
    for NamedModel { name: structure, is_float, params, model } in workload.load(structures, &options, &device)? {
        for pass in passes.iter().filter(|pass| is_float || **pass != Pass::Training) {
            candidates.push(model.work(*pass).map_err(|error| format!("{}, {structure}: {error}", workload.name()))?);
            abouts.push((*pass, structure.clone(), params, model.cost(), model.items(*pass)));
        }
    }
    let times = measure(&mut candidates, effort);
    let mut rows = Vec::new();
    for pass in passes {
        let of_pass = abouts.iter().zip(&times).zip(&mut candidates).filter(|((about, _), _)| about.0 == *pass);
        rows.extend(of_pass.map(|(((_, structure, params, cost, items), time), work)| Row {
            workload: workload.name(),
            pass: name(pass),
            device: device_name.to_string(),
            variant: String::new(),
            structure: structure.clone(),
            params: *params,
            flops_ratio: cost.flops_ratio(),
            items: *items,
            unit: workload.unit().to_string(),
            time: *time,
            peak_bytes: Some(peak_memory(work, &device)),
        }));
    }
    Ok(rows)
}

/// The memory that a turn needs beyond what is there before it. A device with pools of its own says how much it has reserved; where
/// there are none, tensors are on the heap.
fn peak_memory(work: &mut Work<'_>, device: &Device) -> usize {
    device.memory_cleanup();
    let Some(before) = device.memory_pool_usage() else {
        return heap::peak_of(|| _ = work.timed());
    };
    work.timed();
    let after = device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    after.saturating_sub(before.bytes_in_use) as usize
}

/// Every model in its smallest size, briefly: whether the program works, not how fast anything is.
fn test() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let line = "models --bench --tiny --quick --seconds 0.01 --structure dense --structure blast:b=2,ratio=0.5";
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let arguments = Arguments::try_parse_from(line.split(' ').chain(["--out", out]));
    let results = run(&arguments.map_err(|error| error.to_string())?)?;
    let text = std::fs::read_to_string(folder.path().join("models.json")).map_err(|error| error.to_string())?;
    let read: Results = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let passes: usize = Workload::value_variants().iter().flat_map(|workload| workload.passes()).map(|p| p.len()).sum();
    if (read.rows.len(), results.rows.len()) != (2 * passes, 2 * passes) {
        return Err(format!("{} rows instead of {}", read.rows.len(), 2 * passes));
    }
    for rows in read.rows.chunks(2) {
        let [dense, blast] = rows else { return Err("an odd number of rows".into()) };
        let measured = |row: &Row| row.time.median_ms > 0.0 && row.peak_bytes.is_some_and(|bytes| bytes > 0);
        if !dense.is_pass_of(blast) || blast.params >= dense.params || !measured(dense) || !measured(blast) {
            return Err(format!("figures that cannot be: {rows:?}"));
        }
    }
    Ok(())
}
