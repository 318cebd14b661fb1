//! Layers with int8 weights beside the same layers in f32, dense and structured: time, bytes and error.
//!
//! ```text
//! cargo bench --bench int8
//! cargo bench --bench int8 -- --layer 768x3072 --tokens 1,512 --structure dense --structure blast:b=6,ratio=0.5
//! ```
//!
//! All layers of a shape take turns. `cargo test --bench int8` runs a tiny layer instead, to see that the program works.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

mod record;

#[path = "../harness/mod.rs"]
mod harness;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use clap::Parser;
use harness::file::write;
use harness::machine::Machine;
use harness::measure::{Effort, Rotation, Work, measure};
use harness::provenance::{Tree, command, may_record, now, program};
use record::{FORMAT, Results, Row, line};
use std::path::PathBuf;
use std::process::ExitCode;

/// MiB of weights to rotate through, so that no cache is measured.
const ROTATION: usize = 64 << 20;

/// Times layers with int8 weights beside the same layers in f32, on Flex.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench int8 --", version, max_term_width = 120)]
struct Arguments {
    /// Layers, inputs before outputs
    #[arg(long = "layer", value_delimiter = ',', default_value = "768x3072,3072x768", value_parser = sides)]
    layers: Vec<[usize; 2]>,
    /// The structure of a layer; may be given repeatedly; the first is what others are compared to [default: dense, and BLAST, low rank,
    /// Monarch and both kinds of SS1 at half of the weights]
    #[arg(long = "structure", value_name = "STRUCTURE")]
    structures: Vec<Structure>,
    /// Rows of the input
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,512")]
    tokens: Vec<usize>,
    /// Seconds to spend on each figure
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Write int8.json to this folder; benches/results takes figures of a clean commit only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn sides(text: &str) -> Result<[usize; 2], String> {
    let sides = text.split_once('x').and_then(|(n, m)| Some([n.parse().ok()?, m.parse().ok()?]));
    sides.ok_or_else(|| format!("`{text}` is no layer; write inputs and outputs, such as 768x3072"))
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
    let tree = Tree::now();
    let file = arguments.out.as_ref().map(|folder| folder.join("int8.json"));
    file.iter().try_for_each(|file| may_record(file, &tree))?;
    let default = [
        "dense",
        "blast:b=6,ratio=0.5",
        "low-rank:ratio=0.5",
        "monarch:b=4,ratio=0.5",
        "ss1:c=2",
        "ss1:c=2,hash=independent",
    ];
    let structures = match arguments.structures.is_empty() {
        true => default.map(|text| text.parse().expect("a structure")).to_vec(),
        false => arguments.structures.clone(),
    };
    let mut results = Results {
        format: FORMAT,
        program: program(&tree),
        command: command("int8"),
        measured: now(),
        machine: Machine::here(),
        seconds: arguments.seconds,
        rows: Vec::new(),
    };
    print!("{}", record::head(&results));
    for sides in &arguments.layers {
        for tokens in &arguments.tokens {
            let rows = measure_layer(*sides, *tokens, &structures, arguments.seconds)?;
            for row in &rows {
                print!("{}", line(row, &rows[0]));
            }
            results.rows.extend(rows);
        }
        if let Some(file) = &file {
            let text = serde_json::to_string_pretty(&results).expect("plain figures have a text form") + "\n";
            write(file, &text)?;
        }
    }
    Ok(results)
}

/// Every structure in f32 and in int8, which take turns.
fn measure_layer(
    [n, m]: [usize; 2],
    tokens: usize,
    structures: &[Structure],
    seconds: f64,
) -> Result<Vec<Row>, String> {
    let device = Device::flex();
    device.seed(0);
    let x = Tensor::<2>::random([tokens, n], Distribution::Normal(0.0, 1.0), &device);
    let (mut works, mut rows) = (Vec::new(), Vec::new());
    for structure in structures {
        let fail = |error| format!("{structure} on {n}x{m}: {error}");
        let layer = StructuredLinearConfig::new(n, m, *structure).try_init(&device).map_err(fail)?;
        let small = layer.clone().quantize().map_err(fail)?;
        let exact = layer.forward(x.clone());
        for (layer, int8) in [(layer, false), (small, true)] {
            let error = (layer.forward(x.clone()) - exact.clone()).square().sum() / exact.clone().square().sum();
            let cost = layer.cost();
            // The same integers and floats, without the input and the output of a token.
            let bytes = cost.bytes_per_token - 4 * (n + m);
            rows.push((structure.to_string(), int8, bytes, f64::from(error.into_scalar::<f32>()).sqrt()));
            let mut layers = Rotation::filling(ROTATION, bytes, |_| copied(&layer));
            let x = x.clone();
            works.push(Work::new(move || drop(std::hint::black_box(layers.next().forward(x.clone())))));
        }
    }
    let times = measure(&mut works, Effort { seconds, fewest: 9, most: 2000, calls: 1 });
    let row = |((structure, int8, bytes, error), time)| Row {
        d_input: n,
        d_output: m,
        tokens,
        structure,
        int8,
        bytes,
        error,
        time,
    };
    Ok(rows.into_iter().zip(times).map(row).collect())
}

/// A copy with memory of its own.
fn copied(layer: &StructuredLinear) -> StructuredLinear {
    struct Copy;
    impl ModuleMapper for Copy {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor * 1.0)
        }
        fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
            param.map(|tensor| Tensor::from_data(tensor.to_data(), (&tensor.device(), tensor.dtype())))
        }
    }
    layer.clone().map(&mut Copy)
}

/// A tiny layer, briefly: whether the program works, not how fast anything is.
fn test() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let line = "int8 --bench --layer 48x64 --tokens 1,9 --seconds 0.01";
    let arguments = Arguments::try_parse_from(line.split(' ').chain(["--out", out]));
    let results = run(&arguments.map_err(|error| error.to_string())?)?;
    let text = std::fs::read_to_string(folder.path().join("int8.json")).map_err(|error| error.to_string())?;
    let read: Results = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let small = |row: &&Row| row.int8 && row.error > 0.0 && row.error < 0.05 && row.time.median_ms > 0.0;
    match read.rows.iter().filter(small).count() {
        12 if results.rows.len() == 24 => Ok(()),
        count => Err(format!("{count} int8 rows of {}: {:?}", results.rows.len(), read.rows)),
    }
}
