//! Structured layers against dense ones, in one process, as ratios.
//!
//! ```text
//! cargo bench --bench layers                           # the table
//! cargo bench --bench layers -- --json out.json        # and the figures
//! cargo bench --bench layers -- --only ss1             # the structures whose text contains this
//! ```
//!
//! Every candidate of a row is timed once a round, in changing order, so that whatever else the machine does falls on all
//! alike; the figure is the median round. Inputs rotate through more memory than the caches hold. The dense baseline is
//! the fastest of Burn's `Linear` in both layouts and the `gemm` crate called directly with all threads; all of them use
//! AVX-512 kernels where the processor has them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table")]

use burn::nn::{Linear, LinearConfig, LinearLayout};
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::nn::{BlastStrategy, Structure, StructuredLinear, StructuredLinearConfig};
use burn_structured::ops::device;
use serde::Serialize;
use std::time::Instant;

/// `(d_input, d_output, structure)`.
const LAYERS: [(usize, usize, &str); 18] = [
    (768, 3072, "blast:b=4,ratio=0.5"),
    (768, 3072, "blast:b=16,ratio=0.5"),
    (768, 3072, "blast:b=16,ratio=0.25"),
    (3072, 768, "blast:b=4,ratio=0.5"),
    (4096, 4096, "blast:b=4,ratio=0.5"),
    (768, 3072, "low-rank:ratio=0.5"),
    (768, 3072, "ss1:c=2"),
    (768, 3072, "ss1:c=4"),
    (768, 3072, "ss1:c=8"),
    (768, 3072, "ss1:c=4,hash=independent"),
    (4096, 4096, "ss1:c=4"),
    (768, 3072, "monarch:b=4,ratio=0.5"),
    (768, 3072, "monarch:b=16,ratio=0.5"),
    (768, 3072, "btt:r=2"),
    (768, 3072, "block-diagonal:b=4"),
    (768, 3072, "pixelfly:b=16,stride=4,ratio=0.5"),
    (768, 3072, "gaudi:ratio=0.5"),
    (768, 3072, "kronecker:r=2"),
];
const TOKENS: [usize; 3] = [1, 64, 512];
/// Bytes of inputs to rotate through.
const ROTATION: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Pass {
    Forward,
    ForwardBackward,
}

/// Milliseconds: the median round and the range that half of the rounds fall into.
#[derive(Clone, Copy, Debug, Serialize)]
struct Time {
    median: f64,
    lower_quartile: f64,
    upper_quartile: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    d_input: usize,
    d_output: usize,
    structure: String,
    params_ratio: f64,
    tokens: usize,
    pass: Pass,
    times: Vec<(&'static str, Time)>,
}

impl Row {
    fn time(&self, prefix: &str) -> Option<f64> {
        let times = self.times.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, time)| time.median);
        times.min_by(f64::total_cmp)
    }
}

type Candidate<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Times every candidate once a round, in an order drawn anew each time: who comes after whom decides whose weights are
/// still in the cache.
fn measure(mut candidates: Vec<Candidate<'_>>, budget_seconds: f64) -> Vec<(&'static str, Time)> {
    let warmup = Instant::now();
    for (_, run) in &mut candidates {
        run();
        run();
    }
    let round = warmup.elapsed().as_secs_f64() / 2.0;
    let rounds = ((budget_seconds / round.max(1e-6)) as usize).clamp(9, 400);
    let mut times = vec![Vec::with_capacity(rounds); candidates.len()];
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..rounds {
        for last in (1..order.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            order.swap(last, (state % (last as u64 + 1)) as usize);
        }
        for index in &order {
            let start = Instant::now();
            candidates[*index].1();
            times[*index].push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let summary = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        Time { median: at(0.5), lower_quartile: at(0.25), upper_quartile: at(0.75) }
    };
    candidates.iter().zip(times).map(|((name, _), times)| (*name, summary(times))).collect()
}

/// Inputs that are handed out one after the other.
struct Rotation {
    inputs: Vec<Tensor<2>>,
    next: usize,
}

impl Rotation {
    fn new(tokens: usize, d_input: usize, device: &Device) -> Self {
        let count = (ROTATION / (4 * tokens * d_input)).clamp(2, 64);
        let draw = |_| Tensor::random([tokens, d_input], Distribution::Normal(0.0, 1.0), device);
        Self { inputs: (0..count).map(draw).collect(), next: 0 }
    }

    fn next(&mut self) -> Tensor<2> {
        self.next = (self.next + 1) % self.inputs.len();
        self.inputs[self.next].clone()
    }
}

/// One pass; backward computes the gradients of the input and of every parameter.
fn timed<'a>(
    pass: Pass,
    tokens: usize,
    d_input: usize,
    device: &'a Device,
    layer: impl Fn(Tensor<2>) -> Tensor<2> + 'a,
) -> Box<dyn FnMut() + 'a> {
    let mut inputs = Rotation::new(tokens, d_input, device);
    Box::new(move || {
        let x = inputs.next();
        match pass {
            Pass::Forward => drop(std::hint::black_box(layer(x))),
            Pass::ForwardBackward => drop(std::hint::black_box(layer(x.require_grad()).sum().backward())),
        }
        device.sync().expect("the device answers");
    })
}

/// The product alone by the `gemm` crate on all threads.
fn gemm_dense<'a>(tokens: usize, d_input: usize, d_output: usize) -> Box<dyn FnMut() + 'a> {
    let weight = vec![0.5f32; d_input * d_output];
    let inputs: Vec<Vec<f32>> =
        (0..(ROTATION / (4 * tokens * d_input)).clamp(2, 64)).map(|_| vec![0.25; tokens * d_input]).collect();
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % inputs.len();
        // A fresh output, as a layer has to allocate one as well.
        let mut y = vec![0.0f32; tokens * d_output];
        // SAFETY: all three matrices are contiguous and as large as the sizes say.
        unsafe {
            gemm::gemm(
                tokens,
                d_output,
                d_input,
                y.as_mut_ptr(),
                1,
                d_output as isize,
                false,
                inputs[next].as_ptr(),
                1,
                d_input as isize,
                weight.as_ptr(),
                1,
                d_output as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        std::hint::black_box(y);
    })
}

fn row(
    (d_input, d_output, structure): (usize, usize, Structure),
    tokens: usize,
    pass: Pass,
    device: &Device,
    cpu: bool,
) -> Row {
    let device = match pass {
        Pass::Forward => device.clone(),
        Pass::ForwardBackward => device.clone().autodiff(),
    };
    let dense = |d_input, layout| -> Linear { LinearConfig::new(d_input, d_output).with_layout(layout).init(&device) };
    let (by_row, by_column) = (dense(d_input, LinearLayout::Row), dense(d_input, LinearLayout::Col));
    let layer = StructuredLinearConfig::new(d_input, d_output, structure).init(&device);
    // What SS1 cannot be faster than: a dense layer as wide as its sketch.
    let narrow = match &layer {
        StructuredLinear::Ss1(layer) => Some((layer.z.shape()[0], dense(layer.z.shape()[0], LinearLayout::Row))),
        _ => None,
    };
    let name = if let StructuredLinear::Blast(_) = &layer { "structured: auto" } else { "structured" };

    let mut candidates: Vec<Candidate<'_>> = vec![
        ("dense: Linear, row layout", timed(pass, tokens, d_input, &device, |x| by_row.forward(x))),
        ("dense: Linear, column layout", timed(pass, tokens, d_input, &device, |x| by_column.forward(x))),
        (name, timed(pass, tokens, d_input, &device, |x| layer.forward(x))),
    ];
    if cpu && pass == Pass::Forward {
        candidates.push(("dense: gemm alone", gemm_dense(tokens, d_input, d_output)));
    }
    if let StructuredLinear::Blast(layer) = &layer {
        let by = |strategy| timed(pass, tokens, d_input, &device, move |x| layer.forward_with(x, strategy));
        candidates.push(("plain: Burn operations", by(BlastStrategy::Reference)));
        if pass == Pass::Forward {
            candidates.push(("path: staged", by(BlastStrategy::Staged)));
            candidates.push(("path: blocked", by(BlastStrategy::Blocked)));
        }
    }
    if let Some((width, layer)) = &narrow {
        candidates
            .push(("floor: Linear of the stored width", timed(pass, tokens, *width, &device, |x| layer.forward(x))));
    }
    let times = measure(candidates, 1.5);
    let params_ratio = layer.cost().params_ratio();
    Row { d_input, d_output, structure: structure.to_string(), params_ratio, tokens, pass, times }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |flag: &str| arguments.iter().position(|argument| argument == flag).and_then(|at| arguments.get(at + 1));
    let name = value("--device").map_or("flex", String::as_str);
    let device = device::named(name).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        std::process::exit(1);
    });
    println!(
        "device {name}, f32, {} threads; times in ms",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    println!(
        "| layer | structure | tokens | pass | dense (best) | structured | speed-up | plain Burn, or floor | relative |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for (d_input, d_output, text) in LAYERS {
        if value("--only").is_some_and(|only| !text.contains(only.as_str())) {
            continue;
        }
        let structure: Structure = text.parse().expect("a structure");
        for tokens in TOKENS {
            for pass in [Pass::Forward, Pass::ForwardBackward] {
                if pass == Pass::ForwardBackward && tokens != 512 {
                    continue;
                }
                let row = row((d_input, d_output, structure), tokens, pass, &device, name == "flex");
                let (dense, structured) = (row.time("dense").expect("a time"), row.time("structured").expect("a time"));
                let other = row.time("plain").or(row.time("floor"));
                println!(
                    "| {d_input}→{d_output} | {text} | {tokens} | {} | {dense:.3} | {structured:.3} | {:.2}x | {} | {} |",
                    if pass == Pass::Forward { "forward" } else { "forward + backward" },
                    dense / structured,
                    other.map_or("–".into(), |time| format!("{time:.3}")),
                    other.map_or("–".into(), |time| format!("{:.2}x", time / structured)),
                );
                rows.push(row);
            }
        }
    }
    if let Some(path) = value("--json") {
        let json = serde_json::to_string_pretty(&rows).expect("plain figures");
        if let Err(error) = std::fs::write(path, json + "\n") {
            eprintln!("error: {path}: {error}");
            std::process::exit(1);
        }
    }
}
