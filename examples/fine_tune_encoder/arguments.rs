//! The command line.

use crate::structures::{self, Structures};
use burn_structured::compress::budget::KeepDense;
use burn_structured::models::bert::Bert;
use burn_structured::nn::Structure;
use burn_structured::train::sentences::FineTuneConfig;
use burn_structured::train::training::RunFolder;
use clap::Parser;
use std::path::PathBuf;

/// Share of the dense parameters of a structure that is named without settings.
const RATIO: f64 = 0.5;

/// Compresses a BERT sentence encoder by several structures, fine-tunes each on scored sentence pairs, and compares them with the dense
/// one.
///
/// Leaves fine-tuning.json, fine-tuning.svg and latency.svg in --out, and beside them the fine-tuned models, a folder for each structure.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    /// Folder with config.json, model.safetensors and tokenizer.json of the dense model
    #[arg(long)]
    pub model: PathBuf,
    /// Sentence pairs in the layout of the STS benchmark; a part is trained on, the others are scored
    #[arg(long)]
    pub sts: PathBuf,
    /// Structures of the encoder's linear layers, with settings as in blast:b=6,ratio=0.5; names alone take half of the dense parameters
    #[arg(
        long,
        value_name = "STRUCTURES",
        value_parser = structures::parse,
        default_value = "dense,blast:b=6,ratio=0.5,ss1:c=2,low-rank:ratio=0.5,monarch:b=4,ratio=0.5"
    )]
    pub compare: Structures,
    /// Layers that stay dense: those whose compression alone moves the encoder's output most
    #[arg(long, value_name = "LAYERS", default_value_t = 4)]
    pub keep_dense: usize,
    /// Keep as many layers dense as leave this share of the linear layers' parameters, instead of --keep-dense
    #[arg(long, value_name = "SHARE", conflicts_with = "keep_dense")]
    pub params: Option<f64>,
    /// Training sentences that calibrate the compression, from all over the pairs
    #[arg(long, default_value_t = 1000)]
    pub calibration_sentences: usize,
    /// Training sentences on which the layers to keep dense are found
    #[arg(long, default_value_t = 64)]
    pub sensitivity_sentences: usize,

    /// Share of the pairs to train on
    #[arg(long, default_value_t = 0.67)]
    pub train_share: f64,
    /// Seed of the split of the pairs
    #[arg(long, default_value_t = 0)]
    pub split_seed: u64,
    /// Passes over the training pairs
    #[arg(long, default_value_t = 4)]
    pub epochs: usize,
    /// Pairs of a batch
    #[arg(long, default_value_t = 16)]
    pub batch_size: usize,
    /// Peak learning rate of AdamW
    #[arg(long, default_value_t = 1e-4)]
    pub lr: f64,
    /// Share of the steps in which the learning rate rises
    #[arg(long, default_value_t = 0.1)]
    pub warmup: f64,
    /// Train the embeddings of words and positions, too
    #[arg(long)]
    pub train_embeddings: bool,
    /// Fine-tunings of each structure, whose seeds 0, 1, … decide the order of the pairs
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,

    /// Batch sizes that inference is timed with
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    pub latency_batches: Vec<usize>,
    /// Seconds of timing for each structure and batch size
    #[arg(long, default_value_t = 2.0)]
    pub latency_seconds: f64,
    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    pub device: String,
    /// Where to write; benches/results takes figures of a clean commit only
    #[arg(long, default_value = "runs/fine_tune_encoder")]
    pub out: PathBuf,
}

impl Arguments {
    pub fn structures(&self) -> Vec<Structure> {
        self.compare.0.iter().map(|named| named.or_ratio(RATIO)).collect()
    }

    /// The settings of the fine-tuning with a seed.
    pub fn config(&self, seed: u64) -> FineTuneConfig {
        FineTuneConfig::new()
            .with_epochs(self.epochs)
            .with_batch_size(self.batch_size)
            .with_lr(self.lr)
            .with_warmup(self.warmup)
            .with_embeddings(self.train_embeddings)
            .with_seed(seed)
    }

    /// How many layers of the dense `model` stay dense.
    pub fn keep(&self, model: &Bert) -> KeepDense {
        let share = |share: f64| KeepDense::Params((share * model.cost().dense_params as f64) as usize);
        self.params.map_or(KeepDense::Layers(self.keep_dense), share)
    }

    /// The folder of a structure's model.
    pub fn folder(&self, structure: Structure) -> PathBuf {
        RunFolder::of_structure(&self.out, structure).path().to_owned()
    }

    /// # Errors
    ///
    /// If a setting cannot be used with the dense `model`.
    pub fn check(&self, model: &Bert) -> Result<(), String> {
        let layers = model.linears().count();
        if self.params.is_none() && self.keep_dense >= layers {
            return Err(format!("--keep-dense {} leaves none of the {layers} layers to compress", self.keep_dense));
        }
        if let Some(share) = self.params.filter(|share| !(*share > 0.0 && *share < 1.0)) {
            return Err(format!("--params {share} is no share of the parameters; give one above 0 and below 1"));
        }
        for (name, value) in [
            ("--seeds", self.seeds as usize),
            ("--calibration-sentences", self.calibration_sentences),
            ("--sensitivity-sentences", self.sensitivity_sentences),
            ("--latency-batches", self.latency_batches.iter().copied().min().unwrap_or(0)),
        ] {
            if value == 0 {
                return Err(format!("{name} = 0 cannot be used; give at least 1"));
            }
        }
        if !(self.latency_seconds > 0.0 && self.latency_seconds.is_finite()) {
            return Err(format!("--latency-seconds {} cannot be used; give a time above 0", self.latency_seconds));
        }
        let structures = self.structures();
        for (index, structure) in structures.iter().enumerate() {
            if structures[..index].iter().any(|other| self.folder(*other) == self.folder(*structure)) {
                return Err(format!("{structure} is named twice in --compare; name it once"));
            }
        }
        Ok(())
    }
}
