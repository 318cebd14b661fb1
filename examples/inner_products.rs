//! How far inner products are off when one side is projected, quantized, or both, against the compression ratio.
//!
//! ```text
//! cargo run --release --example inner_products
//! cargo run --release --example inner_products -- --features 4096 --seeds 64
//! ```
//!
//! A row `w` of `n` weights is stored as `S w`, the `n / c` sums of an SS1 layer, or as integers with one scale, or as the integers
//! of the sums; the product with `x` is then estimated from `S x` or `x`. Measured beside the formula of each error's variance.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use burn::tensor::{Device, Tensor};
use burn_structured::checkpoint::PALETTE;
use burn_structured::nn::{Ss1Hash, Ss1LinearConfig};
use clap::Parser;
use plotters::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal, StudentT};
use serde::Serialize;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures the error of inner products that are projected, quantized or both.
///
/// Leaves products.json and products.svg in --out.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Features of the vectors, a multiple of 512
    #[arg(long, default_value_t = 1024)]
    features: usize,
    /// Pairs of vectors
    #[arg(long, default_value_t = 64)]
    pairs: usize,
    /// Projections of every pair
    #[arg(long, default_value_t = 32)]
    seeds: u32,
    /// Correlation of the two vectors of a pair, from -1 to 1
    #[arg(long, default_value_t = 0.5)]
    correlation: f64,
    /// Where to write
    #[arg(long, default_value = "runs/inner_products")]
    out: PathBuf,
}

/// Input features that share a rotation in SS1.
const BLOCK: usize = 16;
const REDUCTIONS: [usize; 5] = [2, 4, 8, 16, 32];
const BITS: [u32; 6] = [8, 6, 5, 4, 3, 2];
/// Bits of the weights that are not quantized, and of those that are both projected and quantized.
const FULL: u32 = 32;
const BOTH: u32 = 8;

/// The error of one way to store the weights.
#[derive(Serialize)]
struct Row {
    /// The distribution of the weights.
    weights: &'static str,
    method: &'static str,
    /// Features that share a stored weight, and the bits of it.
    reduction: usize,
    bits: u32,
    /// Bits of a dense f32 row over those that are stored, without the scale.
    ratio: f64,
    /// Mean of `(estimate - <w, x>)² / (|w|² |x|²)`.
    measured: f64,
    /// The same by the formula.
    expected: f64,
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
    if args.features == 0 || !args.features.is_multiple_of(BLOCK * REDUCTIONS[4]) {
        return Err(format!("--features {}: give a multiple of {}", args.features, BLOCK * REDUCTIONS[4]).into());
    }
    if args.pairs == 0 || args.seeds == 0 {
        return Err("give at least 1 pair and 1 seed".into());
    }
    if !(-1.0..=1.0).contains(&args.correlation) {
        return Err(format!("--correlation {}: give a number from -1 to 1", args.correlation).into());
    }
    let mut rows = Vec::new();
    for (name, tail) in [("normal", None), ("heavy-tailed", Some(StudentT::new(3.0)?))] {
        let mut rng = StdRng::seed_from_u64(7);
        let pairs: Vec<Pair> = (0..args.pairs).map(|_| Pair::draw(args, tail, &mut rng)).collect();
        rows.extend(BITS.map(|bits| quantized(name, &pairs, bits)));
        for reduction in REDUCTIONS {
            rows.extend(projected(args, name, &pairs, reduction)?);
        }
    }
    println!("| weights | method | features a weight | bits | ratio | measured | formula |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for row in &rows {
        let Row { weights, method, reduction, bits, ratio, measured, expected } = row;
        println!("| {weights} | {method} | {reduction} | {bits} | {ratio:.1} | {measured:.2e} | {expected:.2e} |");
    }
    std::fs::create_dir_all(&args.out)?;
    let [json, svg] = ["products.json", "products.svg"].map(|name| args.out.join(name));
    std::fs::write(&json, serde_json::to_string_pretty(&rows)? + "\n")?;
    draw(&rows, &svg)?;
    println!("\nsaved {} and {}", json.display(), svg.display());
    Ok(())
}

struct Pair {
    w: Vec<f64>,
    x: Vec<f64>,
}

impl Pair {
    fn draw(args: &Args, tail: Option<StudentT<f64>>, rng: &mut StdRng) -> Self {
        let mut draw = |tail: Option<StudentT<f64>>| -> Vec<f64> {
            (0..args.features)
                .map(|_| match tail {
                    Some(tail) => tail.sample(rng),
                    None => StandardNormal.sample(rng),
                })
                .collect()
        };
        let (w, other) = (draw(tail), draw(None));
        let mix = (1.0 - args.correlation.powi(2)).sqrt();
        let x = w.iter().zip(&other).map(|(w, other)| args.correlation * w + mix * other).collect();
        Self { w, x }
    }

    /// `|w|² |x|²`, which errors are relative to.
    fn scale(&self) -> f64 {
        dot(&self.w, &self.w) * dot(&self.x, &self.x)
    }
}

/// The weights as integers of so many bits with one scale.
fn quantized(weights: &'static str, pairs: &[Pair], bits: u32) -> Row {
    let mean =
        |of: &dyn Fn(&Pair) -> f64| pairs.iter().map(|pair| of(pair) / pair.scale()).sum::<f64>() / pairs.len() as f64;
    Row {
        weights,
        method: "quantized",
        reduction: 1,
        bits,
        ratio: f64::from(FULL) / f64::from(bits),
        measured: mean(&|pair| (dot(&round(&pair.w, bits), &pair.x) - dot(&pair.w, &pair.x)).powi(2)),
        expected: mean(&|pair| rounding(&pair.w, bits) * dot(&pair.x, &pair.x)),
    }
}

/// The sums of an SS1 layer, in f32 and as integers.
fn projected(args: &Args, weights: &'static str, pairs: &[Pair], reduction: usize) -> Result<[Row; 2], Box<dyn Error>> {
    let (mut measured, mut expected) = ([0.0; 2], [0.0; 2]);
    for seed in 0..args.seeds {
        let sketch = Sketch::new(args.features, reduction, seed)?;
        for pair in pairs {
            let [w, x] = [&pair.w, &pair.x].map(|vector| sketch.of(vector));
            let exact = dot(&pair.w, &pair.x);
            for (at, sums) in [w.clone(), round(&w, BOTH)].iter().enumerate() {
                measured[at] += (dot(sums, &x) - exact).powi(2) / pair.scale();
            }
            // A feature shares its weight with `c - 1` of the other `n - 1`, each with a random sign.
            let squares: f64 = pair.w.iter().zip(&pair.x).map(|(w, x)| (w * x).powi(2)).sum();
            let share = (reduction - 1) as f64 / (args.features - 1) as f64;
            let variance = share * (pair.scale() + exact.powi(2) - 2.0 * squares);
            expected[0] += variance / pair.scale();
            expected[1] += (variance + rounding(&w, BOTH) * dot(&x, &x)) / pair.scale();
        }
    }
    let count = f64::from(args.seeds) * pairs.len() as f64;
    let row = |at: usize, method, bits| Row {
        weights,
        method,
        reduction,
        bits,
        ratio: reduction as f64 * f64::from(FULL) / f64::from(bits),
        measured: measured[at] / count,
        expected: expected[at] / count,
    };
    Ok([row(0, "projected", FULL), row(1, "both", BOTH)])
}

/// The projection `S` of an SS1 layer: where each feature goes, and its sign.
struct Sketch {
    to: Vec<(usize, f64)>,
    sums: usize,
}

impl Sketch {
    fn new(features: usize, reduction: usize, seed: u32) -> Result<Self, Box<dyn Error>> {
        let sums = features / reduction;
        let config = Ss1LinearConfig::new(features, sums).with_reduction(reduction).with_block_k(BLOCK);
        // All rows have one projection, which is the dense weight if the stored ones are the identity.
        let config = config.with_block_n(sums).with_bias(false).with_hash(Ss1Hash::Independent { seed, signs: true });
        let dense = config.from_stored(Tensor::eye(sums, &Device::flex()), None)?.to_dense();
        let dense: Vec<f32> = dense.into_data().try_into_vec().map_err(|error| format!("{error:?}"))?;
        let mut to = vec![(0, 0.0); features];
        for (at, sign) in dense.iter().enumerate().filter(|(_, sign)| **sign != 0.0) {
            to[at % features] = (at / features, f64::from(*sign));
        }
        Ok(Self { to, sums })
    }

    fn of(&self, vector: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.sums];
        for ((to, sign), value) in self.to.iter().zip(vector) {
            sums[*to] += sign * value;
        }
        sums
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The step between integers: the largest magnitude is the largest integer.
fn step(values: &[f64], bits: u32) -> f64 {
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    largest / f64::from((1 << (bits - 1)) - 1)
}

fn round(values: &[f64], bits: u32) -> Vec<f64> {
    let step = step(values, bits);
    values.iter().map(|value| (value / step).round() * step).collect()
}

/// The variance of a rounding error that is uniform within a step.
fn rounding(values: &[f64], bits: u32) -> f64 {
    step(values, bits).powi(2) / 12.0
}

/// A panel for each distribution of the weights: points as measured, lines by the formula.
fn draw(rows: &[Row], path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let values = || rows.iter().flat_map(|row| [row.measured, row.expected]);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        for (weights, cell) in ["normal", "heavy-tailed"].into_iter().zip(area.split_evenly((1, 2))) {
            let mut chart = ChartBuilder::on(&cell)
                .caption(format!("{weights} weights"), ("sans-serif", 16))
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(64)
                .build_cartesian_2d(0.7..8.3, (low / 2.0..high * 2.0).log_scale())?;
            chart
                .configure_mesh()
                .x_desc("compression ratio")
                .y_desc("mean squared error / |w|²|x|²")
                .x_labels(8)
                .x_label_formatter(&|exponent: &f64| format!("{:.0}", exponent.exp2()))
                .y_label_formatter(&|value| format!("{value:.0e}"))
                .light_line_style(WHITE)
                .draw()?;
            for (method, [red, green, blue]) in ["projected", "quantized", "both"].into_iter().zip(PALETTE) {
                let colour = RGBColor(red, green, blue);
                let mut points: Vec<&Row> =
                    rows.iter().filter(|row| row.weights == weights && row.method == method).collect();
                points.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
                chart
                    .draw_series(LineSeries::new(points.iter().map(|row| (row.ratio.log2(), row.expected)), colour))?;
                let dots = points.iter().map(|row| Circle::new((row.ratio.log2(), row.measured), 4, colour.filled()));
                chart.draw_series(dots)?;
                if let Some(last) = points.last() {
                    let font = ("sans-serif", 13).into_font().color(&colour);
                    chart.draw_series([Text::new(method, (last.ratio.log2() + 0.15, last.measured * 1.3), font)])?;
                }
            }
        }
        area.present()?;
    }
    Ok(std::fs::write(path, svg)?)
}
