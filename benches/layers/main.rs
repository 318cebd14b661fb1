//! Structured layers beside the dense layers they replace, on every backend of the build, as ratios.
//!
//! ```text
//! cargo bench --features baselines --bench layers                                    # the catalogue's selection on Flex
//! cargo bench --features baselines --bench layers -- --only ss1 --tokens 512         # a part of it
//! cargo bench --features baselines --bench layers -- --device flex,ndarray --out DIR # one table, JSON and plots
//! cargo bench --features baselines --bench layers -- --plot DIR/layers.json torch.json --out DIR
//! cargo bench --features baselines --bench layers -- --against before.json after.json
//! cargo bench --features baselines --bench layers -- --summary benches/results
//! ```
//!
//! `--help` has the rest. `cargo test` runs a few small layers instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod arguments;
mod baseline;
mod candidates;
mod catalogue;
mod compare;
mod plot;
mod plot_models;
mod record;
mod reference;
mod report;
mod roofline;
mod selftest;
mod strategies;
mod summary;

#[path = "../harness/mod.rs"]
mod harness;

use arguments::{Arguments, Precision};
use burn::tensor::DType;
use burn_structured::train::device;
use candidates::{Target, is_a_processor, measure_case};
use clap::{Parser, ValueEnum};
use harness::file::write;
use harness::machine::Machine;
use harness::measure::Effort;
use harness::provenance::{Tree, command, may_record, now, program};
use mimalloc::MiMalloc;
use record::{FORMAT, Results};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Keeps the pages of outputs for the next ones, so that what is timed is not the system's clearing of memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Calls in a row on a GPU: launches wait in its queue, as they do in a network, and waiting for it is shared by all.
const GPU_CALLS: usize = 20;

fn main() -> ExitCode {
    let outcome = if harness::is_a_test() { selftest::run() } else { run(&Arguments::parse()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if !arguments.plot.is_empty() {
        let files: Vec<Results> = arguments.plot.iter().map(|path| Results::read(path)).collect::<Result<_, _>>()?;
        print!("{}", report::report(&files));
        return arguments.out.as_deref().map_or(Ok(()), |folder| plot::write_both(&files, folder));
    }
    if let Some(folder) = &arguments.summary {
        return summary::write_pages(folder);
    }
    if let [before, after] = &arguments.against[..] {
        let (text, ratios) = compare::compare(before, after)?;
        print!("{text}");
        let json = || serde_json::to_string_pretty(&ratios).expect("plain figures have a text form") + "\n";
        return arguments.json.as_deref().map_or(Ok(()), |path| write(path, &json()));
    }
    let cases = catalogue::cases(&arguments.selection)?;
    if arguments.list {
        for case in &cases {
            println!("{}, {} tokens, {}: {}", case.layer, case.tokens, case.pass, case.structures.join("; "));
        }
        let json = || serde_json::to_string_pretty(&cases).expect("plain values have a text form") + "\n";
        return arguments.json.as_deref().map_or(Ok(()), |path| write(path, &json()));
    }
    let tree = Tree::now();
    for path in arguments.out.iter().chain(&arguments.json) {
        may_record(path, &tree)?;
    }
    let (targets, not_run) = targets(arguments)?;
    let mut results = Results {
        format: FORMAT,
        program: program(&tree),
        command: command("layers"),
        measured: now(),
        machine: Machine::here(),
        seconds: targets[0].effort.seconds,
        rotation_mib: arguments.rotation,
        peaks: Vec::new(),
        not_run,
        rows: Vec::new(),
    };
    for target in &targets {
        results.peaks.push(roofline::peak(target, if arguments.quick { 32 << 20 } else { 256 << 20 }));
    }
    print!("{}", report::head(std::slice::from_ref(&results)));
    for case in &cases {
        for target in &targets {
            let mut skipped = Vec::new();
            let measured =
                catch_unwind(AssertUnwindSafe(|| measure_case(case, target, &mut |reason| skipped.push(reason))));
            let rows = measured.unwrap_or_else(|_| {
                skipped.push(format!("{}, {} tokens, {}: the backend panicked", case.layer, case.tokens, case.pass));
                Vec::new()
            });
            for row in &rows {
                print!("{}", report::line(&results, row));
            }
            results.rows.extend(rows);
            results.not_run.extend(skipped.iter().map(|why| format!("{} {}: {why}", target.name, target.dtype_name)));
        }
        save(&results, arguments)?;
    }
    print!("{}{}", report::strategies(std::slice::from_ref(&results)), report::foot(std::slice::from_ref(&results)));
    Ok(())
}

/// Writes what there is so far: a long run that is stopped has not run for nothing.
fn save(results: &Results, arguments: &Arguments) -> Result<(), String> {
    if let Some(path) = &arguments.json {
        write(path, &results.to_json())?;
    }
    if let Some(folder) = &arguments.out {
        write(&folder.join("layers.json"), &results.to_json())?;
        plot::write_both(std::slice::from_ref(results), folder)?;
    }
    Ok(())
}

/// Every device with every dtype that it has, and those that it does not.
fn targets(arguments: &Arguments) -> Result<(Vec<Target>, Vec<String>), String> {
    let dtypes = match (arguments.dtype.is_empty(), arguments.selection.all) {
        (false, _) => arguments.dtype.clone(),
        (true, false) => vec![Precision::F32],
        (true, true) => {
            let names = catalogue::dtypes()?;
            names.iter().map(|name| Precision::from_str(name, true)).collect::<Result<_, _>>()?
        }
    };
    let (mut targets, mut not_run) = (Vec::new(), Vec::new());
    for name in &arguments.device {
        let device = device::from_name(name).map_err(|error| error.to_string())?;
        for precision in &dtypes {
            let dtype = match precision {
                Precision::F32 => DType::F32,
                Precision::F64 => DType::F64,
                Precision::F16 => DType::F16,
                Precision::Bf16 => DType::BF16,
            };
            let dtype_name = precision.to_possible_value().expect("a value with a name").get_name().to_string();
            if !device.supports_dtype(dtype) {
                not_run.push(format!("{name} {dtype_name}: the backend does not have it"));
                continue;
            }
            targets.push(Target {
                name: name.clone(),
                device: device.clone(),
                dtype,
                dtype_name,
                window: arguments.rotation << 20,
                effort: effort(arguments, name),
                strategies: arguments.strategies,
                reference: !arguments.no_reference,
            });
        }
    }
    match targets.is_empty() {
        true => Err(format!("nothing to measure:\n{}", not_run.join("\n"))),
        false => Ok((targets, not_run)),
    }
}

fn effort(arguments: &Arguments, device: &str) -> Effort {
    let calls = arguments.calls.unwrap_or(if is_a_processor(device) { 1 } else { GPU_CALLS });
    match arguments.quick {
        true => Effort { seconds: arguments.seconds / 10.0, fewest: 3, most: 400, calls },
        false => Effort { seconds: arguments.seconds, fewest: 15, most: 400, calls },
    }
}
