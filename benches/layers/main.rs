//! Structured layers beside the dense layers they replace, on every backend of the build, as ratios.
//!
//! ```text
//! cargo bench --bench layers                                    # the catalogue's selection on Flex
//! cargo bench --bench layers -- --only ss1 --tokens 512         # a part of it
//! cargo bench --bench layers -- --device flex,ndarray --out DIR # one table, JSON and plots
//! cargo bench --bench layers -- --plot DIR/layers.json torch.json --out DIR
//! ```
//!
//! `--help` has the rest. `cargo test` runs a few small layers instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod arguments;
mod baseline;
mod candidates;
mod catalogue;
mod plot;
mod record;
mod reference;
mod report;
mod roofline;
mod strategies;

#[path = "../harness/mod.rs"]
mod harness;

use arguments::{Arguments, Precision};
use burn::tensor::DType;
use burn_structured::ops::device;
use candidates::{Target, is_a_processor, measure_case};
use clap::{Parser, ValueEnum};
use harness::file::write;
use harness::machine::Machine;
use harness::measure::Effort;
use mimalloc::MiMalloc;
use record::{FORMAT, Results};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Keeps the pages of outputs for the next ones, so that what is timed is not the system's clearing of memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Calls in a row on a GPU: launches wait in its queue, as they do in a network, and waiting for it is shared by all.
const GPU_CALLS: usize = 20;

fn main() -> ExitCode {
    let outcome = if harness::is_a_test() { test() } else { run(&Arguments::parse()) };
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
        return arguments.out.as_deref().map_or(Ok(()), |folder| write_report(&files, folder));
    }
    let cases = catalogue::cases(&arguments.selection)?;
    if arguments.list {
        for case in &cases {
            println!("{}, {} tokens, {}: {}", case.layer, case.tokens, case.pass, case.structures.join("; "));
        }
        let json = || serde_json::to_string_pretty(&cases).expect("plain values have a text form") + "\n";
        return arguments.json.as_deref().map_or(Ok(()), |path| write(path, &json()));
    }
    let (targets, not_run) = targets(arguments)?;
    let mut results = Results {
        format: FORMAT,
        program: program(),
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

/// This program, with the commit that it was measured at where git says so: `burn-structured 0.1.0 (1a2b3c4)`.
fn program() -> String {
    let describe =
        Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let commit = describe.ok().filter(|output| output.status.success()).map(|output| {
        let name = String::from_utf8_lossy(&output.stdout);
        format!(" ({})", name.trim())
    });
    format!("burn-structured {}{}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default())
}

/// Writes what there is so far: a long run that is stopped has not run for nothing.
fn save(results: &Results, arguments: &Arguments) -> Result<(), String> {
    if let Some(path) = &arguments.json {
        write(path, &results.to_json())?;
    }
    if let Some(folder) = &arguments.out {
        write(&folder.join("layers.json"), &results.to_json())?;
        write_report(std::slice::from_ref(results), folder)?;
    }
    Ok(())
}

fn write_report(files: &[Results], folder: &Path) -> Result<(), String> {
    write(&folder.join("layers.md"), &report::report(files))?;
    let figures = [
        ("time-against-tokens.svg", plot::time_against_tokens(files)),
        ("speed-up-against-parameters.svg", plot::speed_up_against_parameters(files)),
    ];
    for (name, figure) in figures {
        if let Some(svg) = figure {
            write(&folder.join(name), &svg.map_err(|error| format!("{name}: {error}"))?)?;
        }
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
        let device = device::named(name).map_err(|error| error.to_string())?;
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

/// A few small layers, through the table, the file and the plots: whether the program works, not how fast anything is.
fn test() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let line = "layers --bench --quick --seconds 0.01 --rotation 0 --strategies --layers 96x192 --tokens 1,16 --out";
    let structures = ["blast:b=4,ratio=0.5", "ss1:c=2", "ss1:c=2,hash=independent", "monarch:b=4,ratio=0.5"];
    let structures = structures.iter().flat_map(|structure| ["--structure", structure]);
    let arguments = Arguments::try_parse_from(line.split(' ').chain([out]).chain(structures));
    run(&arguments.map_err(|error| error.to_string())?)?;

    let read = Results::read(&folder.path().join("layers.json"))?;
    let expected = 4 * 2 * 2;
    if read.rows.len() != expected {
        return Err(format!("{} rows instead of {expected}; {:?}", read.rows.len(), read.not_run));
    }
    for row in &read.rows {
        let timed = row.candidates.iter().all(|candidate| candidate.time.median_ms > 0.0 && candidate.time.rounds >= 3);
        if !timed || row.speed_up().is_none() || read.roofline(row, row.work).is_none() {
            return Err(format!("a row without figures: {row:?}"));
        }
    }
    for name in ["time-against-tokens.svg", "speed-up-against-parameters.svg", "layers.md"] {
        let text = std::fs::read_to_string(folder.path().join(name)).map_err(|error| format!("{name}: {error}"))?;
        if !text.contains("blast:b=4,ratio=0.5") {
            return Err(format!("{name} does not name the structures"));
        }
    }
    Ok(())
}
