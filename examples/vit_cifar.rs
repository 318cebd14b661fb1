//! Trains a vision transformer or an MLP-Mixer with structured layers on CIFAR, or compares several structures.
//!
//! ```text
//! cargo run --release --example vit_cifar
//! cargo run --release --example vit_cifar -- --compare dense,blast,low-rank --epochs 20
//! cargo run --release --example vit_cifar -- --model mixer --compare dense,blast,low-rank
//! ```
//!
//! The images come from `--data-dir`, else from the cache folder, else from the web; with none of them the example runs
//! on a built-in synthetic set, and says so on every output.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

#[path = "shared/ctrl_c.rs"]
mod ctrl_c;
#[path = "shared/images.rs"]
mod images;
#[path = "shared/structures.rs"]
mod structures;

use burn_structured::models::mixer::MixerConfig;
use burn_structured::models::vit::ViTConfig;
use burn_structured::nn::{Blocks, Rank, Structure};
use burn_structured::train::comparison::{ImageReport, ImageRow, ModelCost};
use burn_structured::train::data::ImageSet;
use burn_structured::train::device;
use burn_structured::train::training::{Interrupter, RunFolder, Start};
use burn_structured::train::vision::{
    ClassifierConfig, ImageClassifier, Recipe, RunSettings, best_learning_rate, search_learning_rate, train,
};
use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Architecture {
    /// A vision transformer
    Vit,
    /// An MLP-Mixer
    Mixer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// dim 128, depth 4, patch 4: trains on two CPU cores
    Small,
    /// The BLAST paper's ViT-S: dim 768, depth 8, heads 8, MLP ratio 3, patch 4
    VitS,
    /// Mixer-S with patches of 4: dim 512, depth 8
    MixerS,
}

/// Trains a vision transformer or an MLP-Mixer with structured linear layers.
///
/// A finished run leaves its weights (model.bpk) and figures (result.json) in --out; a comparison leaves one folder a
/// structure, comparison.json and comparison.svg.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    images: images::ImageArgs,
    /// Train on this many images only, of all classes alike [default: 2500]
    #[arg(long, value_name = "IMAGES")]
    limit: Option<usize>,
    /// Test on this many images only [default: all]
    #[arg(long, value_name = "IMAGES")]
    test_limit: Option<usize>,
    /// Train on all images
    #[arg(long, conflicts_with = "limit")]
    full: bool,

    /// Architecture of the model
    #[arg(long, value_enum, default_value = "vit")]
    model: Architecture,
    /// Size of the model
    #[arg(long, value_enum, default_value = "small")]
    preset: Preset,
    /// Structure of the linear layers: dense, blast, low-rank, ss1, monarch, block-diagonal, pixelfly, gaudi, btt or
    /// kronecker, with settings as in blast:b=4,ratio=0.33
    #[arg(long, default_value = "blast", conflicts_with = "compare")]
    structure: structures::Named,
    /// Train each of these under the same seed and budget: dense,blast,low-rank,monarch,…
    #[arg(long, value_name = "STRUCTURES", value_parser = structures::parse)]
    compare: Option<structures::Structures>,
    /// Blocks of the structures that have them: 4, 3x6 (rows x columns) or auto
    #[arg(long, value_parser = parse_blocks)]
    blocks: Option<Blocks>,
    /// Share of the dense parameters [default: 0.33 for structures named without settings]
    #[arg(long, conflicts_with = "rank")]
    ratio: Option<f64>,
    /// Rank, instead of a share of the parameters
    #[arg(long)]
    rank: Option<usize>,

    /// Passes over the training images
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Images of a batch
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Peak learning rate of AdamW
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Try each of these rates on held-out training images first, and train with the best, for each structure: 5e-4,1e-3,2e-3
    #[arg(long, value_delimiter = ',', value_name = "RATES")]
    lr_search: Vec<f64>,
    /// Epochs of each trial [default: a third of --epochs]
    #[arg(long, requires = "lr_search")]
    search_epochs: Option<usize>,
    /// Learning rates of structured layers' factors: 0 is one for all, 1 in inverse proportion to the features each sums
    #[arg(long, default_value_t = 0.0)]
    factor_rates: f64,
    /// Epochs of warm-up
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Strength of mixup; 0 is off
    #[arg(long, default_value_t = 0.0)]
    mixup: f64,
    /// Strength of CutMix; 0 is off
    #[arg(long, default_value_t = 0.0)]
    cutmix: f64,
    /// Share of each target that is spread over all classes
    #[arg(long, default_value_t = 0.1)]
    label_smoothing: f64,
    /// Dropout probability
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// Stochastic depth: probability of skipping the last block
    #[arg(long, default_value_t = 0.0)]
    drop_path: f64,
    /// Seed of the weights, the shuffling and the augmentation
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
    /// Where to write [default: runs/vit_cifar or runs/mixer_cifar]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue a run that was stopped, after its last complete epoch; a finished one is only shown
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Drop an earlier run in --out, finished or not
    #[arg(long)]
    fresh: bool,
}

fn parse_blocks(text: &str) -> Result<Blocks, String> {
    match format!("blast:b={text}").parse() {
        Ok(Structure::Blast { blocks, .. }) => Ok(blocks),
        Ok(_) => unreachable!("the text names BLAST"),
        Err(error) => Err(error.to_string()),
    }
}

impl Args {
    /// What is to be trained, with `--blocks`, `--ratio` and `--rank` applied.
    fn structures(&self) -> Result<Vec<Structure>, String> {
        let named = self.compare.as_ref().map_or(vec![self.structure], |structures::Structures(all)| all.clone());
        let rank = self.rank.map(Rank::Fixed).or(self.ratio.map(Rank::Ratio));
        let settle = |structures::Named { structure, bare }: structures::Named| {
            // A comparison passes over those that have no such setting.
            if self.compare.is_none() {
                let by_rank = [1, 2].map(|rank| structure.with_rank(Rank::Fixed(rank)));
                if self.rank.is_some() && by_rank[0] == by_rank[1] {
                    return Err(format!("`{}` has no rank; leave out --rank", structure.name()));
                }
                let by_blocks = [1, 2].map(|blocks| structure.with_blocks(Blocks::Square(blocks)));
                if self.blocks.is_some() && by_blocks[0] == by_blocks[1] {
                    return Err(format!("`{}` has no blocks; leave out --blocks", structure.name()));
                }
            }
            let rank = rank.or(bare.then_some(Rank::Ratio(0.33)));
            let structure = rank.map_or(structure, |rank| structure.with_rank(rank));
            Ok(self.blocks.map_or(structure, |blocks| structure.with_blocks(blocks)))
        };
        named.into_iter().map(settle).collect()
    }

    fn recipe(&self) -> Recipe {
        let mut recipe = Recipe {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr,
            min_lr: self.lr / 100.0,
            factor_rates: self.factor_rates,
            warmup_epochs: self.warmup.min(self.epochs as f64),
            seed: self.seed,
            ..Recipe::default()
        };
        recipe.augmentation.mixup = self.mixup;
        recipe.augmentation.cutmix = self.cutmix;
        recipe.augmentation.label_smoothing = self.label_smoothing;
        recipe
    }

    fn out(&self) -> PathBuf {
        let default = match self.model {
            Architecture::Vit => "runs/vit_cifar",
            Architecture::Mixer => "runs/mixer_cifar",
        };
        self.out.clone().unwrap_or_else(|| default.into())
    }
}

/// A model that these arguments can describe.
trait Described: ClassifierConfig {
    fn new(args: &Args, set: &ImageSet, structure: Structure) -> Result<Self, String>;
}

impl Described for ViTConfig {
    fn new(args: &Args, set: &ImageSet, structure: Structure) -> Result<Self, String> {
        let classes = set.classes.len();
        let preset = match args.preset {
            Preset::Small => Self::small(classes),
            Preset::VitS => Self::cifar_vit_s(classes),
            Preset::MixerS => return Err("mixer-s is no vision transformer; add --model mixer".into()),
        };
        Ok(preset
            .with_image_size(set.height)
            .with_channels(set.channels)
            .with_dropout(args.dropout)
            .with_drop_path(args.drop_path)
            .with_structure(structure))
    }
}

impl Described for MixerConfig {
    fn new(args: &Args, set: &ImageSet, structure: Structure) -> Result<Self, String> {
        let classes = set.classes.len();
        let preset = match args.preset {
            Preset::Small => Self::small(classes),
            Preset::MixerS => Self::cifar_mixer_s(classes),
            Preset::VitS => return Err("vit-s is no MLP-Mixer; choose --preset small or mixer-s".into()),
        };
        Ok(preset
            .with_image_size(set.height)
            .with_channels(set.channels)
            .with_dropout(args.dropout)
            .with_drop_path(args.drop_path)
            .with_structure(structure))
    }
}

fn run<C: Described>(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let out = args.out();
    let device = device::from_name(&args.device)?;
    let structures = args.structures()?;
    let start = match (args.resume, args.fresh) {
        (true, _) => Start::Resume,
        (_, true) => Start::Fresh,
        _ => Start::New,
    };
    let folder = |structure| match args.compare {
        Some(_) => RunFolder::of_structure(&out, structure),
        None => RunFolder::new(&out),
    };
    // Report an earlier run before anything is downloaded.
    structures.iter().try_for_each(|structure| folder(*structure).check(start))?;
    let set = args.images.read(args.seed)?;
    let limit = if args.full { None } else { args.limit.or(Some(2500)) };
    let set = set.limit(limit, args.test_limit, args.seed);
    let recipe = args.recipe();
    println!(
        "dataset: {} ({} training, {} test images, {} classes); device: {}",
        set.name,
        set.train.len(),
        set.test.len(),
        set.classes.len(),
        args.device
    );

    // Report a structure that does not fit before the first one has been trained for an hour.
    for structure in &structures {
        let model = C::new(args, &set, *structure)?.try_init(&device)?;
        recipe.check_for(&model.factors())?;
        let cost = model.cost();
        println!(
            "{structure}: {:.2} M parameters, {:.1} M FLOPs/image, {:.0} % of the dense linear layers' FLOPs",
            cost.params as f64 / 1e6,
            cost.model_flops as f64 / 1e6,
            100.0 * cost.relative_flops
        );
    }

    let interrupter = Interrupter::new();
    ctrl_c::stop_on_ctrl_c(&interrupter)?;
    let mut report = ImageReport {
        model: C::NAME.into(),
        dataset: set.name.clone(),
        train_images: set.train.len(),
        test_images: set.test.len(),
        device: args.device.clone(),
        recipe: recipe.clone(),
        rows: Vec::new(),
    };
    for structure in structures {
        let folder = folder(structure);
        let mut settings = RunSettings::new(C::new(args, &set, structure)?, recipe.clone(), &set);
        if !args.lr_search.is_empty() {
            let epochs = args.search_epochs.unwrap_or(args.epochs.div_ceil(3));
            eprintln!("\nsearching the learning rate of {structure} in {}", folder.path().display());
            let rates = &args.lr_search;
            let trials =
                search_learning_rate(&settings, &set, &device, &folder, start, interrupter.clone(), rates, epochs)?;
            let Some(trials) = trials else { return Ok(interrupted(None)) };
            for trial in &trials {
                println!("{structure}, lr {}: {:.2} % of the held-out images", trial.lr, 100.0 * trial.accuracy);
            }
            let lr = best_learning_rate(&trials).unwrap_or(args.lr);
            (settings.recipe.lr, settings.recipe.min_lr) = (lr, lr / 100.0);
        }
        // A comparison that was stopped continues with what is missing.
        let finished = if args.resume { folder.finished(&settings)? } else { None };
        let result = match finished {
            Some(result) => Some(result),
            None => {
                eprintln!("\ntraining {structure} in {}", folder.path().display());
                train(&settings, &set, &device, &folder, start, interrupter.clone())?
            }
        };
        let Some(result) = result else { return Ok(interrupted(Some(&folder))) };
        let cost: ModelCost = settings.model.try_init(&device)?.cost();
        report.rows.push(ImageRow::new(structure, settings.recipe.lr, cost, result));
    }

    println!("\n{report}");
    if args.compare.is_some() {
        let [json, svg] = report.save(&out)?;
        println!("saved {} and {}", json.display(), svg.display());
    } else {
        println!("weights: {}", RunFolder::new(&out).model().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how to go on after Ctrl-C; `folder` has the weights, unless it was a trial.
fn interrupted(folder: Option<&RunFolder>) -> ExitCode {
    match folder {
        Some(folder) => {
            println!("\ninterrupted; the weights as they were are in {}", folder.interrupted_model().display())
        }
        None => println!("\ninterrupted while searching the learning rate"),
    }
    println!("continue after the last complete epoch by adding --resume to the same command");
    ExitCode::from(130)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.model {
        Architecture::Vit => run::<ViTConfig>(&args),
        Architecture::Mixer => run::<MixerConfig>(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
