//! Compresses a sentence encoder, with and without calibration, and measures the result on held-out text.
//!
//! ```text
//! cargo run --release --example compress_encoder -- --model all-MiniLM-L6-v2 --text lines.txt --held-out more.txt
//! cargo run --release --example compress_encoder -- … --budget --structure blast:b=6,ratio=0.5
//! ```
//!
//! The model is a Hugging Face folder with a BERT encoder: `config.json`, `model.safetensors`, `tokenizer.json`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

#[path = "shared/progress.rs"]
mod progress;

use burn::tensor::{DType, Tensor};
use burn_structured::compress::approximate;
use burn_structured::compress::budget::{LayerCurve, allocate, measure, model_errors};
use burn_structured::compress::calibrate::{Calibrator, Moment};
use burn_structured::compress::factorize::{FactorizerConfig, NamedMatrix, Progress};
use burn_structured::models::bert::{Bert, SentenceEncoder, TokenBatch};
use burn_structured::nn::{Rank, Structure, StructuredLinear, layer_paths};
use burn_structured::train::device;
use burn_structured::train::similarity::SentencePairs;
use clap::Parser;
use mimalloc::MiMalloc;
use progress::progress;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Sentences that go through the model at once.
const BATCH: usize = 32;

/// Shares of a layer's parameters among which a budget chooses.
const SHARES: [f64; 9] = [0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8];

/// Steps of a factorization for an error curve.
const CURVE_STEPS: usize = 6;

/// Compresses a BERT sentence encoder, with and without calibration, and measures the result on held-out text.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder with config.json, model.safetensors and tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// Text to calibrate with, a sentence or a paragraph a line
    #[arg(long)]
    text: PathBuf,
    /// Lines of the text to use
    #[arg(long, default_value_t = 1500)]
    lines: usize,
    /// Text to measure with
    #[arg(long)]
    held_out: PathBuf,
    /// Lines of the held-out text to use
    #[arg(long, default_value_t = 500)]
    held_out_lines: usize,
    /// Sentence pairs in the layout of the STS benchmark, to measure Spearman's correlation on
    #[arg(long)]
    sts: Option<PathBuf>,

    /// Structures to try; repeat for several
    #[arg(long, default_values = ["low-rank:ratio=0.5", "monarch:b=6,ratio=0.5", "blast:b=6,ratio=0.5"])]
    structure: Vec<Structure>,
    /// Also give every layer its own share of the parameters, under the same total: by the errors of the layers, and by what
    /// these cost the whole model
    #[arg(long)]
    budget: bool,
    /// Lines of the text on which --budget measures what a layer's error costs the model
    #[arg(long, default_value_t = 16)]
    sensitivity_lines: usize,
    /// Steps of a factorization
    #[arg(long, default_value_t = 40)]
    steps: usize,
    /// Share of the identity in the second moment of the inputs
    #[arg(long, default_value_t = 0.01)]
    regularization: f64,
    /// File for the moments of the calibration: read if it exists, else written
    #[arg(long)]
    moments: Option<PathBuf>,
    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
}

/// A linear layer of the model.
struct Layer {
    /// The checkpoint's name for it.
    name: String,
    /// Its path in the module.
    path: String,
    /// `[d_output, d_input]`.
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    calibration: Moment,
    held_out: Moment,
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
    let device = device::from_name(&args.device)?;
    let encoder = SentenceEncoder::from_folder(&args.model, &device)?;
    let pairs = args.sts.as_deref().map(SentencePairs::from_file).transpose()?;

    let calibration = match &args.moments {
        Some(path) if path.exists() => Calibrator::load(path)?,
        moments => {
            let calibration = moments_of(&encoder, &read_lines(&args.text, args.lines)?, "calibrating")?;
            if let Some(path) = moments {
                calibration.save(path)?;
            }
            calibration
        }
    };
    let held_out_lines = read_lines(&args.held_out, args.held_out_lines)?;
    let held_out = moments_of(&encoder, &held_out_lines, "measuring")?;
    let layers = layers(&encoder, &calibration, &held_out)?;
    let total: usize = layers.iter().map(|layer| layer.weight.dims().iter().product::<usize>()).sum();
    println!("{} layers of {total} weights\n", layers.len());

    let dense = encoder.embed(&held_out_lines)?;
    println!(
        "| structure | calibrated | shares | weights | error of the weights | of the layers' outputs | of the embeddings | \
         STS Spearman | seconds |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|---:|");
    let spearman = |encoder: &SentenceEncoder| -> Result<String, Box<dyn Error>> {
        Ok(match &pairs {
            Some(pairs) => format!("{:.2}", 100.0 * pairs.spearman(encoder)?),
            None => "-".into(),
        })
    };
    println!("| dense | | | 100 % | 0 | 0 | 0 | {} | |", spearman(&encoder)?);
    let report =
        |structure: &Structure, calibrated: bool, shares: &str, linears: &[StructuredLinear], began: Instant| {
            let seconds = began.elapsed().as_secs_f64();
            let mut compressed = encoder.clone();
            let (mut weights, mut plain, mut outputs) = (0, 0.0, 0.0);
            for ((layer, linear), (_, slot)) in layers.iter().zip(linears).zip(compressed.model.linears_mut()) {
                weights += linear.cost().params - layer.bias.as_ref().map_or(0, |bias| bias.dims()[0]);
                plain += relative_error(linear, &layer.weight);
                outputs += approximate::relative_error(linear.to_dense(), &layer.weight, &layer.held_out)?;
                *slot = linear.clone();
            }
            let count = layers.len() as f64;
            let embeddings = norm(compressed.embed(&held_out_lines)? - dense.clone()) / norm(dense.clone());
            println!(
                "| {structure} | {} | {shares} | {:.1} % | {:.4} | {:.4} | {embeddings:.4} | {} | {seconds:.0} |",
                if calibrated { "yes" } else { "no" },
                100.0 * weights as f64 / total as f64,
                plain / count,
                outputs / count,
                spearman(&compressed)?
            );
            Ok::<_, Box<dyn Error>>(())
        };
    for structure in &args.structure {
        for calibrated in [false, true] {
            let began = Instant::now();
            let even = compress(args, &layers, &vec![*structure; layers.len()], calibrated)?;
            report(structure, calibrated, "even", &even, began)?;
            if !args.budget {
                continue;
            }
            let began = Instant::now();
            let curves = curves(args, &layers, *structure, calibrated)?;
            let budget = params(&layers, &even);
            let measuring = began.elapsed();
            // Layers differ in the size of their outputs, and the next norm scales them.
            let relative: Vec<LayerCurve> = curves.iter().map(|curve| curve.clone().with_relative_errors()).collect();
            let chosen = compress(args, &layers, &within(&relative, budget)?, calibrated)?;
            report(structure, calibrated, "by the layers' errors", &chosen, began)?;
            let began = Instant::now() - measuring;
            let sensitive = with_sensitivities(args, &encoder, &layers, curves, &even, calibrated)?;
            let chosen = compress(args, &layers, &within(&sensitive, budget)?, calibrated)?;
            report(structure, calibrated, "by the model's errors", &chosen, began)?;
        }
    }
    Ok(())
}

/// The weights of all layers, without biases.
fn params(layers: &[Layer], linears: &[StructuredLinear]) -> usize {
    let biases: usize = layers.iter().filter_map(|layer| layer.bias.as_ref()).map(|bias| bias.dims()[0]).sum();
    linears.iter().map(|linear| linear.cost().params).sum::<usize>() - biases
}

/// Every layer in its structure, each approximated by itself.
fn compress(
    args: &Args,
    layers: &[Layer],
    structures: &[Structure],
    calibrated: bool,
) -> Result<Vec<StructuredLinear>, Box<dyn Error>> {
    let settings = FactorizerConfig::new().with_steps(args.steps);
    let moment = |layer: &Layer| layer.calibration.regularized(args.regularization);
    let mut found: BTreeMap<&str, StructuredLinear> = BTreeMap::new();
    let bar = progress(layers.len(), "layers")?;
    let mut structured: Vec<(Structure, Vec<&Layer>)> = Vec::new();
    for (layer, structure) in layers.iter().zip(structures) {
        match structured.iter_mut().find(|(other, _)| other == structure) {
            Some((_, layers)) => layers.push(layer),
            None => structured.push((*structure, vec![layer])),
        }
    }
    for (structure, layers) in structured {
        if let Structure::Blast { blocks, rank } = structure {
            // `stream` factorizes layers of one shape together.
            let matrices = layers.iter().map(|layer| {
                let matrix = NamedMatrix::new(&layer.name, layer.weight.clone());
                if calibrated { matrix.with_moment(moment(layer).to_tensor(&layer.weight.device())) } else { matrix }
            });
            let observe = |names: &[String], progress: Progress| {
                let error = progress.point.mean_error();
                bar.set_message(format!("{} layers, step {}: {error:.3}", names.len(), progress.point.step));
                ControlFlow::Continue(())
            };
            let settings = settings.clone().with_blocks(blocks).with_rank(rank);
            for blast in settings.stream(matrices).with_observer(observe) {
                let (name, blast) = blast?;
                let layer = layers.iter().find(|layer| layer.name == name).ok_or("a layer of another name")?;
                found.insert(&layer.name, StructuredLinear::Blast(blast.layer(0, layer.bias.clone())));
                bar.inc(1);
            }
        } else {
            for layer in layers {
                bar.set_message(layer.name.clone());
                let (weight, bias) = (layer.weight.clone(), layer.bias.clone());
                let moment = calibrated.then(|| moment(layer));
                let nearest = approximate(structure, weight, bias, moment.as_ref(), &settings)?;
                found.insert(&layer.name, nearest.layer);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let linear = |layer: &Layer| found.remove(layer.name.as_str()).ok_or(format!("{} was lost", layer.name).into());
    layers.iter().map(linear).collect()
}

/// The error of every layer against its share of the parameters.
fn curves(
    args: &Args,
    layers: &[Layer],
    structure: Structure,
    calibrated: bool,
) -> Result<Vec<LayerCurve>, Box<dyn Error>> {
    let bar = progress(layers.len(), "curves")?;
    let settings = FactorizerConfig::new().with_steps(args.steps.min(CURVE_STEPS));
    let shares: Vec<Structure> = SHARES.iter().map(|share| structure.with_rank(Rank::Ratio(*share))).collect();
    let mut curves = Vec::new();
    for layer in layers {
        bar.set_message(layer.name.clone());
        let moment = layer.calibration.regularized(args.regularization);
        curves.push(LayerCurve::new(measure(&layer.weight, &shares, calibrated.then_some(&moment), &settings)?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(curves)
}

/// The curves with what the layers' errors cost the embeddings of a part of the text, where `even` shows it.
fn with_sensitivities(
    args: &Args,
    encoder: &SentenceEncoder,
    layers: &[Layer],
    curves: Vec<LayerCurve>,
    even: &[StructuredLinear],
    calibrated: bool,
) -> Result<Vec<LayerCurve>, Box<dyn Error>> {
    let tokens = encoder.tokenizer.tokens(&read_lines(&args.text, args.sensitivity_lines)?)?;
    let bar = progress(layers.len() + 1, "models")?;
    bar.set_message("sensitivities");
    let embed = |model: &Bert| {
        bar.inc(1);
        let batches = tokens.chunks(BATCH).map(|sentences| {
            let TokenBatch { tokens, mask } = TokenBatch::new(sentences, encoder.tokenizer.pad_id(), &model.device());
            model.embed(tokens, mask)
        });
        Tensor::cat(batches.collect(), 0)
    };
    let replacements = layers.iter().zip(even).map(|(layer, linear)| (layer.path.clone(), linear.to_dense()));
    let errors = model_errors(&encoder.model, replacements, embed)?;
    bar.finish_and_clear();
    let mut sensitive = Vec::new();
    for ((layer, linear), curve) in layers.iter().zip(even).zip(curves) {
        let relative = match calibrated {
            true => {
                let moment = layer.calibration.regularized(args.regularization);
                approximate::relative_error(linear.to_dense(), &layer.weight, &moment)?
            }
            false => relative_error(linear, &layer.weight),
        };
        sensitive.push(curve.with_model_error(errors[&layer.path], relative));
    }
    Ok(sensitive)
}

/// The structure of every layer, with `budget` parameters together.
fn within(curves: &[LayerCurve], budget: usize) -> Result<Vec<Structure>, Box<dyn Error>> {
    let allocation = allocate(curves, budget)?;
    Ok(allocation.choices.iter().zip(curves).map(|(choice, curve)| curve.points[*choice].structure).collect())
}

fn norm(matrix: Tensor<2>) -> f64 {
    matrix.cast(DType::F32).powf_scalar(2.0).sum().sqrt().into_scalar::<f64>()
}

fn relative_error(layer: &StructuredLinear, weight: &Tensor<2>) -> f64 {
    norm(layer.to_dense() - weight.clone()) / norm(weight.clone())
}

/// The moments of all layers on these lines.
fn moments_of(encoder: &SentenceEncoder, lines: &[String], what: &'static str) -> Result<Calibrator, Box<dyn Error>> {
    let bar = progress(lines.len(), "lines")?;
    bar.set_message(what);
    // Batches of lines of one length: padding must not be recorded as input.
    let mut lengths: BTreeMap<usize, Vec<Vec<u32>>> = BTreeMap::new();
    for tokens in encoder.tokenizer.tokens(lines)? {
        lengths.entry(tokens.len()).or_default().push(tokens);
    }
    let mut calibrator = Calibrator::new();
    for sentences in lengths.values().flat_map(|sentences| sentences.chunks(BATCH)) {
        let TokenBatch { tokens, mask } =
            TokenBatch::new(sentences, encoder.tokenizer.pad_id(), &encoder.model.device());
        calibrator.record(&encoder.model, || encoder.model.forward(tokens, mask))?;
        bar.inc(sentences.len() as u64);
    }
    bar.finish_and_clear();
    Ok(calibrator)
}

fn layers(
    encoder: &SentenceEncoder,
    calibration: &Calibrator,
    held_out: &Calibrator,
) -> Result<Vec<Layer>, Box<dyn Error>> {
    let paths = layer_paths(&encoder.model);
    let mut layers = Vec::new();
    for (name, linear) in encoder.model.linears() {
        let StructuredLinear::Dense(dense) = linear else {
            return Err(format!("{name} is compressed already").into());
        };
        let path = paths.get(&dense.weight.id).cloned().unwrap_or_default();
        let moment = |calibrator: &Calibrator| {
            let moment = calibrator.moment(&path);
            moment.cloned().ok_or(format!("there is no moment of {name}; was it gathered with another model?"))
        };
        layers.push(Layer {
            weight: linear.to_dense(),
            bias: dense.bias.as_ref().map(|bias| bias.val()),
            calibration: moment(calibration)?,
            held_out: moment(held_out)?,
            name,
            path,
        });
    }
    Ok(layers)
}

/// Lines that are text, evenly spread over the file.
fn read_lines(path: &Path, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.len() >= 20 && !line.starts_with('=')).collect();
    if lines.is_empty() || count == 0 {
        return Err(format!("{} has no lines of text to use", path.display()).into());
    }
    let count = count.min(lines.len());
    Ok((0..count).map(|at| lines[at * lines.len() / count].to_string()).collect())
}
