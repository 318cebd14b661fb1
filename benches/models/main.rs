//! Whole models with structured layers beside the same models with dense ones: images or tokens a second in inference and in
//! training, and the memory of a training step.
//!
//! ```text
//! cargo bench --bench models
//! cargo bench --bench models -- --workload vit-s --structure dense --structure blast:b=4,ratio=0.33
//! ```
//!
//! `--help` has the rest. `cargo test --bench models` runs the smallest model instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod gpt2;
mod heap;
mod record;
mod report;
mod workload;

#[path = "../harness/mod.rs"]
mod harness;

use burn::tensor::Device;
use burn_structured::nn::Structure;
use burn_structured::train::device;
use clap::Parser;
use harness::file::write;
use harness::machine::Machine;
use harness::measure::{Effort, Work, measure};
use harness::provenance::{Tree, command, may_record, now, program};
use record::{FORMAT, Results, Row};
use std::path::PathBuf;
use std::process::ExitCode;
use workload::{Prepared, Workload};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Times whole models with structured layers beside dense ones, which take turns.
///
/// Training is forward, backward and a step of AdamW on random data. Memory is what such a step needs at most beyond the
/// weights and the optimizer's state.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench models --", version, max_term_width = 120)]
struct Arguments {
    /// Devices, one table for all: flex, ndarray, cuda:0, … as compiled in by --features
    #[arg(long, value_delimiter = ',', default_value = "flex")]
    device: Vec<String>,
    /// The models
    #[arg(long, value_enum, value_delimiter = ',', default_value = "vit-small,vit-s,gpt2-block")]
    workload: Vec<Workload>,
    /// The structure of all linear layers in the blocks; may be given repeatedly; the first is what others are compared to
    /// [default: dense, two of BLAST, SS1, low rank]
    #[arg(long = "structure", value_name = "STRUCTURE")]
    structures: Vec<Structure>,
    /// Seconds to spend on each figure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A tenth of the time and fewer rounds, to see that all is well
    #[arg(long)]
    quick: bool,
    /// Write models.json to this folder; benches/results takes figures of a clean commit only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

const STRUCTURES: [&str; 5] =
    ["dense", "blast:b=4,ratio=0.5", "blast:b=16,ratio=0.25", "ss1:c=4", "low-rank:ratio=0.5"];

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
    let structures: Vec<Structure> = match arguments.structures.is_empty() {
        true => STRUCTURES.iter().map(|text| text.parse().expect("a structure")).collect(),
        false => arguments.structures.clone(),
    };
    let effort = match arguments.quick {
        true => Effort { seconds: arguments.seconds / 10.0, fewest: 3, most: 50, calls: 1 },
        false => Effort { seconds: arguments.seconds, fewest: 5, most: 100, calls: 1 },
    };
    let tree = Tree::now();
    arguments.out.as_deref().map_or(Ok(()), |folder| may_record(folder, &tree))?;
    let mut results = Results {
        format: FORMAT,
        program: program(&tree),
        command: command("models"),
        measured: now(),
        machine: Machine::here(),
        seconds: effort.seconds,
        rows: Vec::new(),
    };
    print!("{}", report::head(&results));
    for workload in &arguments.workload {
        for name in &arguments.device {
            let device = device::from_name(name).map_err(|error| error.to_string())?;
            let rows = measure_models(*workload, &structures, name, &device, effort)?;
            for row in &rows {
                print!("{}", report::line(row, &rows[0]));
            }
            results.rows.extend(rows);
        }
        if let Some(folder) = &arguments.out {
            write(
                &folder.join("models.json"),
                &(serde_json::to_string_pretty(&results).expect("plain figures have a text form") + "\n"),
            )?;
        }
    }
    Ok(results)
}

fn measure_models(
    workload: Workload,
    structures: &[Structure],
    name: &str,
    device: &Device,
    effort: Effort,
) -> Result<Vec<Row>, String> {
    let prepared = |structure: &Structure| {
        workload.prepare(*structure, device).map_err(|error| format!("{workload:?}, {structure}: {error}"))
    };
    let models: Vec<Prepared> = structures.iter().map(prepared).collect::<Result<_, _>>()?;
    let (mut inference, mut training, mut about) = (Vec::new(), Vec::new(), Vec::new());
    for Prepared { params, cost, inference: pass, training: step } in models {
        inference.push(pass);
        training.push(step);
        about.push((params, cost));
    }
    let inference = measure(&mut inference, effort);
    let steps = measure(&mut training, effort);
    let (items, unit) = workload.items();
    let mut rows = Vec::new();
    for (index, structure) in structures.iter().enumerate() {
        let (params, cost) = about[index];
        rows.push(Row {
            workload: workload.name(),
            device: name.to_string(),
            structure: structure.to_string(),
            params,
            flops_ratio: cost.flops_ratio(),
            items,
            unit: unit.to_string(),
            inference: inference[index],
            training: steps[index],
            step_bytes: step_memory(&mut training[index], device),
        });
    }
    Ok(rows)
}

/// The memory that a training step needs beyond what is there before it. A device with pools of its own says how much it has
/// reserved; where there are none, tensors are on the heap.
fn step_memory(step: &mut Work<'_>, device: &Device) -> usize {
    device.memory_cleanup();
    let Some(before) = device.memory_pool_usage() else {
        return heap::peak_of(|| _ = step.timed());
    };
    step.timed();
    let after = device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    after.saturating_sub(before.bytes_in_use) as usize
}

/// The smallest model, briefly: whether the program works, not how fast anything is.
fn test() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let line =
        "models --bench --quick --seconds 0.01 --workload vit-small --structure dense --structure blast:b=4,ratio=0.25";
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let arguments = Arguments::try_parse_from(line.split(' ').chain(["--out", out]));
    let results = run(&arguments.map_err(|error| error.to_string())?)?;
    let text = std::fs::read_to_string(folder.path().join("models.json")).map_err(|error| error.to_string())?;
    let read: Results = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let [dense, blast] = &read.rows[..] else { return Err(format!("{} rows instead of 2", read.rows.len())) };
    if results.rows.len() != 2
        || blast.params >= dense.params
        || dense.step_bytes == 0
        || blast.inference.median_ms <= 0.0
    {
        return Err(format!("figures that cannot be: {read:?}"));
    }
    Ok(())
}
