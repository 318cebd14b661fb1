//! Trains a click model on generated clicks, with a dense top MLP and with structured ones.
//!
//! ```text
//! cargo run --release --example dlrm_clicks
//! cargo run --release --example dlrm_clicks -- --compare dense,blast:b=4,ratio=0.25,kronecker:r=4
//! ```
//!
//! The clicks are drawn from a planted model: the figures say how well a model learns it, and nothing about clicks of people.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

#[path = "shared/ctrl_c.rs"]
mod ctrl_c;
#[path = "shared/progress.rs"]
mod progress;
#[path = "shared/structures.rs"]
mod structures;

use burn_structured::models::dlrm::{Dlrm, DlrmConfig};
use burn_structured::nn::Structure;
use burn_structured::train::clicks::{ClickRecipe, TrainedDlrm, auc, component_times, evaluate_clicks, train_clicks};
use burn_structured::train::comparison::{ClickReport, ClickRow};
use burn_structured::train::data::clicks::{ClickShape, Clicks, generate};
use burn_structured::train::device;
use burn_structured::train::training::Interrupter;
use clap::Parser;
use mimalloc::MiMalloc;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What reports call the data.
const DATASET: &str = "synthetic clicks";

/// Runs of a component of which the median counts.
const REPETITIONS: usize = 30;

/// Trains a click model on generated (SYNTHETIC) clicks, once for each structure of its top MLP.
///
/// Leaves comparison.json and comparison.svg in --out.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Structures of the top MLP's layers, with settings as in blast:b=4,ratio=0.33; names alone take a third of the dense parameters
    #[arg(long, value_name = "STRUCTURES", value_parser = structures::parse, default_value = "dense,blast,low-rank,monarch")]
    compare: structures::Structures,
    /// Examples to train on
    #[arg(long, default_value_t = 200_000)]
    examples: usize,
    /// Held-out examples
    #[arg(long, default_value_t = 50_000)]
    test_examples: usize,
    /// Hidden features of the top MLP, layer by layer
    #[arg(long, value_delimiter = ',', default_value = "1024,1024,512,256")]
    top: Vec<usize>,
    /// Features of the vectors of categories
    #[arg(long, default_value_t = 16)]
    d_embedding: usize,

    /// Passes over the examples
    #[arg(long, default_value_t = 1)]
    epochs: usize,
    /// Examples of a batch
    #[arg(long, default_value_t = 512)]
    batch_size: usize,
    /// Peak learning rate of Adam
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Learning rates of structured layers' factors: 0 is one for all, 1 in inverse proportion to the features each sums
    #[arg(long, default_value_t = 0.0)]
    factor_rates: f64,
    /// Examples of the batch that inference is timed on
    #[arg(long, default_value_t = 1024)]
    timing_batch: usize,
    /// Seed of the clicks, the weights and the order of the examples
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
    /// Where to write
    #[arg(long, default_value = "runs/dlrm_clicks")]
    out: PathBuf,
}

impl Args {
    fn structures(&self) -> Vec<Structure> {
        self.compare.0.iter().map(|named| named.or_ratio(0.33)).collect()
    }

    fn model(&self, shape: &ClickShape, structure: Structure) -> DlrmConfig {
        DlrmConfig::new(shape.numbers, shape.tables.clone())
            .with_d_embedding(self.d_embedding)
            .with_top(self.top.clone())
            .with_top_structure(structure)
    }

    fn recipe(&self) -> ClickRecipe {
        ClickRecipe {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr,
            factor_rates: self.factor_rates,
            seed: self.seed,
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let device = device::from_name(&args.device)?;
    for (name, value) in [("--examples", args.examples), ("--test-examples", args.test_examples)] {
        if value == 0 {
            return Err(format!("{name} = 0 leaves no example; give at least 1").into());
        }
    }
    if args.timing_batch == 0 {
        return Err("--timing-batch = 0 has nothing to time; give at least 1".into());
    }
    let (shape, recipe) = (ClickShape::default(), args.recipe());
    // Report a structure that does not fit before the first one has been trained.
    for structure in args.structures() {
        let model = args.model(&shape, structure).try_init(&device)?;
        recipe.check_for(&model.factors())?;
        println!(
            "{structure}: {:.2} M parameters in the top MLP, {:.0} % of its dense FLOPs",
            model.top_params() as f64 / 1e6,
            100.0 * model.cost().replaced_flops_ratio()
        );
    }
    let [train, test] = generate(&shape, args.examples, args.test_examples, args.seed);
    let planted_auc = auc(test.planted_logits(), test.clicked());
    println!(
        "dataset: {DATASET} ({} training, {} test examples, {} numbers, {} categories); device: {}",
        train.len(),
        test.len(),
        shape.numbers,
        shape.tables.len(),
        args.device
    );
    std::fs::create_dir_all(&args.out).map_err(|error| format!("cannot create {}: {error}", args.out.display()))?;
    let interrupter = Interrupter::new();
    ctrl_c::stop_on_ctrl_c(&interrupter)?;
    let mut report = ClickReport {
        dataset: DATASET.into(),
        train_examples: train.len(),
        test_examples: test.len(),
        planted_auc,
        device: args.device.clone(),
        recipe: recipe.clone(),
        rows: Vec::new(),
    };
    for structure in args.structures() {
        device.seed(args.seed);
        let model = args.model(&shape, structure).try_init(&device)?;
        let trained = train_one(model, &train, &recipe, structure, &interrupter)?;
        if trained.stopped {
            println!("\ninterrupted while training {structure}; nothing is written");
            return Ok(ExitCode::from(130));
        }
        let model = trained.model;
        let evaluation = evaluate_clicks(&model, &test, args.batch_size);
        println!("{structure}: AUC {}", evaluation.auc.map_or("-".into(), |auc| format!("{auc:.4}")));
        report.rows.push(ClickRow {
            structure,
            evaluation,
            top_params: model.top_params(),
            cost: model.cost().into(),
            times: component_times(&model, &test, args.timing_batch.min(test.len()), REPETITIONS),
            training_seconds: trained.seconds,
        });
    }
    println!("\n{report}");
    let [json, svg] = report.save(&args.out)?;
    println!("saved {} and {}", json.display(), svg.display());
    Ok(ExitCode::SUCCESS)
}

/// Trains under a bar, until Ctrl-C.
fn train_one(
    model: Dlrm,
    train: &Clicks,
    recipe: &ClickRecipe,
    structure: Structure,
    interrupter: &Interrupter,
) -> Result<TrainedDlrm, Box<dyn Error>> {
    let bar = progress::progress(0, "steps")?;
    let trained = train_clicks(model, train, recipe, |step| {
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        bar.set_message(format!("{structure}  loss {:.4}", step.loss));
        if interrupter.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(trained?)
}

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
