//! The command line.

use crate::images::ImageArgs;
use crate::structures::{self, Named, Structures};
use burn_structured::models::dit::DitConfig;
use burn_structured::train::data::ImageSet;
use burn_structured::train::diffusion::{DiffusionRecipe, Sampling, ScheduleKind};
use burn_structured::train::training::Start;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// dim 128, depth 4, heads 4, patch 4: trains on two CPU cores
    Small,
    /// DiT-S on pixels: dim 384, depth 12, heads 6, patch 4
    DitS,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Noise {
    /// The cosine schedule of Nichol and Dhariwal
    Cosine,
    /// The linear schedule of Ho et al.
    Linear,
}

/// Trains a small diffusion transformer, samples images from it, and compresses it.
///
/// A run leaves its weights (model.bpk), figures (result.json) and images (samples.png) in --out; a compression leaves the compressed
/// models, comparison.json, comparison.svg and the images of all models side by side (comparison.png).
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    #[command(flatten)]
    pub images: ImageArgs,
    /// Train on this many images only, of all classes alike [default: all]
    #[arg(long, value_name = "IMAGES")]
    pub limit: Option<usize>,
    /// Measure the noise error on this many test images
    #[arg(long, default_value_t = 1000, value_name = "IMAGES")]
    pub test_limit: usize,

    /// Size of the model
    #[arg(long, value_enum, default_value = "small", conflicts_with = "init")]
    pub preset: Preset,
    /// Structure of the linear layers: dense, blast, low-rank, …, with settings as in blast:b=4,ratio=0.33
    #[arg(long, default_value = "dense", conflicts_with_all = ["compress", "init"])]
    pub structure: Named,
    /// Start from the model of this finished run instead of training one
    #[arg(long, value_name = "RUN_FOLDER")]
    pub init: Option<PathBuf>,
    /// Approximate the linear layers of the dense model by each of these structures: blast:b=4,ratio=0.5,low-rank:ratio=0.5
    #[arg(long, value_name = "STRUCTURES", value_parser = structures::parse)]
    pub compress: Option<Structures>,
    /// Train each compressed model for so many steps
    #[arg(long, default_value_t = 0, value_name = "STEPS", requires = "compress")]
    pub retrain: usize,
    /// Peak learning rate of the retraining
    #[arg(long, default_value_t = 5e-4, requires = "retrain")]
    pub retrain_lr: f64,
    /// Images whose layer inputs the approximations are fitted to
    #[arg(long, default_value_t = 256, value_name = "IMAGES")]
    pub calibration: usize,

    /// Batches to train on
    #[arg(long, default_value_t = 1000, conflicts_with = "init")]
    pub steps: usize,
    /// Images of a batch
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Peak learning rate of AdamW
    #[arg(long, default_value_t = 1e-3, conflicts_with = "init")]
    pub lr: f64,
    /// Learning rates of structured layers' factors: 0 is one for all, 1 in inverse proportion to the features each sums
    #[arg(long, default_value_t = 0.0, conflicts_with = "init")]
    pub factor_rates: f64,
    /// Schedule of the noise
    #[arg(long, value_enum, default_value = "cosine", conflicts_with = "init")]
    pub noise: Noise,
    /// Share of the images that are trained without their class
    #[arg(long, default_value_t = 0.1, conflicts_with = "init")]
    pub class_dropout: f64,

    /// Sampled images of each class
    #[arg(long, default_value_t = 4, value_name = "IMAGES")]
    pub samples: usize,
    /// Steps of DDIM
    #[arg(long, default_value_t = 50)]
    pub sample_steps: usize,
    /// Strength of classifier-free guidance; 1 is none
    #[arg(long, default_value_t = 2.0)]
    pub guidance: f64,
    /// Measure the Fréchet distance of sampled images to test images on the features of the vision transformer of this run of vit_cifar;
    /// it is not FID
    #[arg(long, value_name = "VIT_RUN_FOLDER")]
    pub features_from: Option<PathBuf>,
    /// Sampled images for that distance
    #[arg(long, default_value_t = 500, value_name = "IMAGES", requires = "features_from")]
    pub frechet_images: usize,
    /// Seed of the weights, the order of the images and all noise
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    pub device: String,
    /// Where to write
    #[arg(long, default_value = "runs/dit_cifar")]
    pub out: PathBuf,
    /// Drop earlier runs in --out
    #[arg(long)]
    pub fresh: bool,
}

impl Arguments {
    /// Reports what clap cannot.
    pub fn check(&self) -> Result<(), String> {
        if self.samples == 0 || self.sample_steps == 0 {
            return Err("--samples and --sample-steps take at least 1".into());
        }
        if self.test_limit == 0 {
            return Err("--test-limit = 0 leaves no image to measure on; give at least 1".into());
        }
        if !self.guidance.is_finite() {
            return Err(format!("--guidance = {} is no number", self.guidance));
        }
        if self.init.is_none() && self.class_dropout == 0.0 && self.guidance != 1.0 {
            return Err(
                "--class-dropout 0 trains no class-free prediction to guide by; give --guidance 1 as well".into()
            );
        }
        if self.features_from.is_some() && self.frechet_images < 2 {
            return Err("--frechet-images takes at least 2".into());
        }
        match &self.init {
            Some(init) if *init == self.out => Err(format!(
                "--init and --out are both {}; write elsewhere with --out, so that its samples are not replaced",
                init.display()
            )),
            _ => Ok(()),
        }
    }

    /// What to do with earlier runs in --out.
    pub fn start(&self) -> Start {
        if self.fresh { Start::Fresh } else { Start::New }
    }

    pub fn model(&self, set: &ImageSet) -> DitConfig {
        let classes = set.classes.len();
        let preset = match self.preset {
            Preset::Small => DitConfig::small(classes),
            Preset::DitS => DitConfig::dit_s(classes),
        };
        preset.with_image_size(set.height).with_channels(set.channels).with_structure(self.structure.or_ratio(0.33))
    }

    pub fn recipe(&self) -> DiffusionRecipe {
        DiffusionRecipe {
            steps: self.steps,
            batch_size: self.batch_size,
            lr: self.lr,
            warmup: 100.min(self.steps / 10),
            factor_rates: self.factor_rates,
            class_dropout: self.class_dropout,
            schedule: match self.noise {
                Noise::Cosine => ScheduleKind::Cosine,
                Noise::Linear => ScheduleKind::Linear,
            },
            seed: self.seed,
            ..DiffusionRecipe::default()
        }
    }

    pub fn sampling(&self) -> Sampling {
        Sampling {
            steps: self.sample_steps,
            guidance: self.guidance,
            batch_size: self.batch_size.max(1),
            seed: self.seed,
        }
    }
}
