//! Factorizes matrices and draws how the methods converge.
//!
//! ```text
//! cargo run --release --features compress --example factorize_matrix
//! cargo run --release --features compress --example factorize_matrix -- --target low-rank
//! cargo run --release --features compress --example factorize_matrix -- --file model.safetensors --tensor 'encoder.layer.*.weight' --blocks 6
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured::compress::factorize::{Factorization, FactorizerConfig, Method, Progress};
use burn_structured::compress::report::{Curve, Panel, plot_convergence};
use burn_structured::nn::{Blocks, LowRankLinearConfig, MonarchLinearConfig, Rank};
use burn_structured::train::device;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use mimalloc::MiMalloc;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A random matrix of low rank
    LowRank,
    /// A random BLAST matrix
    Blast,
    /// A random matrix whose blocks have low rank, on interleaved rows
    Monarch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Gradient descent, as in the BLAST paper
    Gd,
    /// Preconditioned gradient descent, as in the BLAST paper's code
    PrecGd,
    /// Alternating least squares from the best low-rank matrix
    Als,
    /// Levenberg-Marquardt from the best low-rank matrix
    Lm,
    /// The library's default
    Auto,
}

impl MethodName {
    fn method(self) -> (Method, &'static str) {
        match self {
            Self::Gd => (Method::GD, "GD"),
            Self::PrecGd => (Method::PREC_GD, "PrecGD"),
            Self::Als => (Method::Als, "ALS"),
            Self::Lm => (Method::LevenbergMarquardt, "Levenberg-Marquardt"),
            Self::Auto => (Method::Auto, "Auto"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Precision {
    F32,
    F64,
}

/// Factorizes matrices into BLAST factors, prints a table of the errors and draws how the methods converge.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// A random matrix to factorize
    #[arg(long, value_enum, default_value = "blast", conflicts_with = "file")]
    target: Target,
    /// Rows and columns of the random matrix
    #[arg(long, default_value_t = 256, conflicts_with = "file")]
    size: usize,
    /// Rank of the random matrix, or of its blocks
    #[arg(long, default_value_t = 8, conflicts_with = "file")]
    target_rank: usize,
    /// A safetensors file to take the matrices from
    #[arg(long, requires = "tensor")]
    file: Option<PathBuf>,
    /// Names of the file's tensors, where * matches anything; tensors that are no matrices are skipped
    #[arg(long, requires = "file", value_name = "PATTERN")]
    tensor: Option<String>,

    /// Blocks on a side [default: 16 for random matrices, automatic for a file's]
    #[arg(long)]
    blocks: Option<usize>,
    /// Ranks to try [default: that of the random matrix, and four times as much]
    #[arg(long, value_delimiter = ',', conflicts_with = "ratio")]
    ranks: Vec<usize>,
    /// Share of the dense parameters, instead of a rank [default for a file's: 0.5]
    #[arg(long)]
    ratio: Option<f64>,
    /// Methods to compare
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gd,prec-gd,auto")]
    methods: Vec<MethodName>,
    /// Steps of every method
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// Steps of the method `auto`, if others than --steps
    #[arg(long, value_name = "STEPS")]
    auto_steps: Option<usize>,
    /// Give every method but the first as much time as the first took for --steps, times this
    #[arg(
        long,
        value_name = "FACTOR",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = above_zero,
        conflicts_with = "auto_steps"
    )]
    equal_time: Option<f64>,
    /// Precision of the computation
    #[arg(long, value_enum, default_value = "f64")]
    precision: Precision,
    /// Seed of the random matrix and the start
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
    /// Where to write convergence.svg
    #[arg(long, default_value = "runs/factorize_matrix")]
    out: PathBuf,
}

/// Matrices of one shape.
struct Batch {
    title: String,
    /// `[k, m, n]`.
    matrices: Tensor<3>,
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
    if args.equal_time.is_some() && args.methods.len() < 2 {
        return Err("--equal-time is for comparing: name two or more --methods".into());
    }
    let device = device::from_name(&args.device)?;
    let dtype = match args.precision {
        Precision::F32 => DType::F32,
        Precision::F64 => DType::F64,
    };
    let (batches, ranks) = match (&args.file, &args.tensor) {
        (Some(file), Some(pattern)) => {
            let ranks = match args.ranks.is_empty() {
                true => vec![Rank::Ratio(args.ratio.unwrap_or(0.5))],
                false => args.ranks.iter().copied().map(Rank::Fixed).collect(),
            };
            (read(file, pattern, &device, dtype)?, ranks)
        }
        _ => {
            let ranks = match (args.ratio, args.ranks.is_empty()) {
                (Some(ratio), _) => vec![Rank::Ratio(ratio)],
                (None, true) => vec![Rank::Fixed(args.target_rank), Rank::Fixed(4 * args.target_rank)],
                (None, false) => args.ranks.iter().copied().map(Rank::Fixed).collect(),
            };
            (vec![random(args, &device, dtype)?], ranks)
        }
    };
    let blocks = match (args.blocks, &args.file) {
        (Some(blocks), _) => Blocks::Square(blocks),
        (None, Some(_)) => Blocks::Auto,
        (None, None) => Blocks::Square(16),
    };
    std::fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;

    println!("| matrices | rank | method | steps | relative error | seconds |");
    println!("|----------|-----:|--------|------:|---------------:|--------:|");
    let mut panels = Vec::new();
    let mut sums: BTreeMap<String, (f64, f64, usize)> = BTreeMap::new();
    for batch in &batches {
        for rank in &ranks {
            let mut curves = Vec::new();
            let mut columns = String::new();
            let mut first_took: Option<f64> = None;
            for name in &args.methods {
                let (method, name) = name.method();
                let steps = if name == "Auto" { args.auto_steps.unwrap_or(args.steps) } else { args.steps };
                let end = match (args.equal_time, first_took) {
                    (Some(factor), Some(seconds)) => End::Seconds(factor * seconds),
                    _ => End::Steps(steps),
                };
                let found = factorize(args, batch, blocks, *rank, method, name, end)?;
                let errors = found.errors();
                let mean = errors.iter().sum::<f64>() / errors.len() as f64;
                let seconds = found.trace.last().map_or(0.0, |point| point.seconds);
                first_took.get_or_insert(seconds);
                let (r, done) = (found.factors.rank(), found.trace.len() - 1);
                println!("| {} | {r} | {name} | {done} | {mean:.3e} | {seconds:.2} |", batch.title);
                let sum = sums.entry(name.to_string()).or_default();
                *sum = (sum.0 + mean * errors.len() as f64, sum.1 + seconds, sum.2 + errors.len());
                columns = format!("{}, rank {r}", batch.title);
                curves.push(Curve { name: name.to_string(), trace: found.trace });
            }
            panels.push(Panel { title: columns, curves });
            if args.file.is_some() {
                closed_forms(batch, blocks, *rank, &mut sums)?;
            }
        }
    }
    if args.file.is_some() {
        println!("\nover all matrices, mean relative error and seconds together:");
        for (name, (error, seconds, count)) in &sums {
            println!("| {name} | {count} matrices | {:.4} | {seconds:.1} s |", error / *count as f64);
        }
    }
    let figure = args.out.join("convergence.svg");
    plot_convergence(&panels, &figure)?;
    println!("\nsaved {}", figure.display());
    Ok(())
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above 0".to_string()),
    }
}

/// When a method is to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Steps(usize),
    Seconds(f64),
}

/// More steps than any run with a time limit takes.
const ENDLESS: usize = 1 << 30;

fn factorize(
    args: &Args,
    batch: &Batch,
    blocks: Blocks,
    rank: Rank,
    method: Method,
    name: &str,
    end: End,
) -> Result<Factorization, Box<dyn Error>> {
    let (bar, template, steps, seconds) = match end {
        End::Steps(steps) => (ProgressBar::new(steps as u64), "{msg} {wide_bar} {pos}/{len} steps", steps, None),
        End::Seconds(seconds) => {
            (ProgressBar::no_length(), "{spinner} {msg} {pos} steps, {elapsed}", ENDLESS, Some(seconds))
        }
    };
    bar.set_style(ProgressStyle::with_template(template)?);
    let config = FactorizerConfig::new()
        .with_blocks(blocks)
        .with_rank(rank)
        .with_method(method)
        .with_steps(steps)
        .with_seconds(seconds)
        .with_patience(None)
        .with_seed(args.seed);
    let observe = |progress: Progress| {
        bar.set_position(progress.point.step as u64);
        bar.set_message(format!("{name}: relative error {:.3e}", progress.point.mean_error()));
        ControlFlow::Continue(())
    };
    let found = config.init().with_observer(observe).factorize_batch(batch.matrices.clone());
    bar.finish_and_clear();
    Ok(found?)
}

/// The structures whose best approximation is known, at the same number of parameters.
fn closed_forms(
    batch: &Batch,
    blocks: Blocks,
    rank: Rank,
    sums: &mut BTreeMap<String, (f64, f64, usize)>,
) -> Result<(), Box<dyn Error>> {
    let Rank::Ratio(_) = rank else { return Ok(()) };
    let [k, m, n] = batch.matrices.dims();
    for matrix in 0..k {
        let weight = || batch.matrices.clone().narrow(0, matrix, 1).squeeze_dim::<2>(0);
        let low_rank = || {
            LowRankLinearConfig::new(n, m).with_rank(rank).from_dense(weight(), None).map(|found| found.relative_error)
        };
        let blockwise = || {
            let config = MonarchLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank);
            config.from_dense(weight(), None).map(|found| found.relative_error)
        };
        for (name, error) in [("low rank (SVD)", &low_rank as &dyn Fn() -> _), ("Monarch (blockwise SVD)", &blockwise)]
        {
            let began = std::time::Instant::now();
            let error: f64 = error()?;
            let sum = sums.entry(name.to_string()).or_default();
            *sum = (sum.0 + error, sum.1 + began.elapsed().as_secs_f64(), sum.2 + 1);
        }
    }
    Ok(())
}

fn random(args: &Args, device: &Device, dtype: DType) -> Result<Batch, Box<dyn Error>> {
    let (size, rank, blocks) = (args.size, args.target_rank, args.blocks.unwrap_or(16));
    if size == 0 || rank == 0 || blocks == 0 || !size.is_multiple_of(blocks) {
        return Err(format!("--size {size} does not split into --blocks {blocks}, or --target-rank is 0").into());
    }
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut normal = |count: usize| -> Vec<f64> { (0..count).map(|_| StandardNormal.sample(&mut rng)).collect() };
    let (left, right) = (normal(size * rank * blocks), normal(size * rank * blocks));
    let (u, v) = (left.as_slice(), right.as_slice());
    let coupling = Uniform::new(0.0, 2.0)?;
    let s: Vec<f64> = (0..blocks * blocks * rank).map(|_| coupling.sample(&mut rng)).collect();
    let side = size / blocks;
    let entry = |row: usize, column: usize| -> f64 {
        let product =
            |a: usize, b: usize| move |t: usize| u[(a * size + row) * rank + t] * v[(b * size + column) * rank + t];
        match args.target {
            Target::LowRank => (0..rank).map(product(0, 0)).sum(),
            Target::Blast => {
                let block = (row / side) * blocks + column / side;
                (0..rank).map(|t| u[row * rank + t] * s[block * rank + t] * v[column * rank + t]).sum()
            }
            Target::Monarch => (0..rank).map(product(column / side, row % blocks)).sum(),
        }
    };
    let mut values: Vec<f64> = Vec::with_capacity(size * size);
    for row in 0..size {
        for column in 0..size {
            values.push(entry(row, column));
        }
    }
    let data = TensorData::new(values, [1, size, size]).convert_dtype(dtype);
    let name = args.target.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    Ok(Batch {
        title: format!("{name} {size}x{size} of rank {rank}"),
        matrices: Tensor::from_data(data, (device, dtype)),
    })
}

fn read(file: &Path, pattern: &str, device: &Device, dtype: DType) -> Result<Vec<Batch>, Box<dyn Error>> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut shapes: BTreeMap<[usize; 2], Vec<Tensor<3>>> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let &[m, n] = view.shape() else { continue };
        if !matches(pattern, name) {
            continue;
        }
        let stored = match view.dtype() {
            safetensors::Dtype::F64 => DType::F64,
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            _ => continue,
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), [1, m, n], stored).convert_dtype(dtype);
        shapes.entry([m, n]).or_default().push(Tensor::from_data(data, (device, dtype)));
    }
    if shapes.is_empty() {
        return Err(format!("no matrix of {} has a name like {pattern}", file.display()).into());
    }
    let batch = |([m, n], matrices): ([usize; 2], Vec<Tensor<3>>)| Batch {
        title: format!("{} of {m}x{n}", matrices.len()),
        matrices: Tensor::cat(matrices, 0),
    };
    Ok(shapes.into_iter().map(batch).collect())
}

/// Whether the name is the pattern, each `*` of which stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}
