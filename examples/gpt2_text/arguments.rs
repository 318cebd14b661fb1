//! The command line.

use crate::budget::Budget;
use crate::preset::Preset;
use burn_structured::models::decoder::LayerRules;
use burn_structured::models::gpt2::Gpt2Config;
use burn_structured::nn::Structure;
use burn_structured::train::comparison::split_structures;
use burn_structured::train::language::{LanguageRecipe, Optimizer, Precision};
use clap::{Args, Parser, ValueEnum};
use std::path::PathBuf;

/// Trains a GPT-2 with structured linear layers on any text, compares structures, or compresses and retrains a dense one.
///
/// Without --text or --train-tokens it trains on a built-in text: the documentation of this repository.
///
/// A finished run leaves a folder in --out: model.safetensors and config.json in the Hugging Face layout, its tokenizer,
/// losses.csv, result.json. A comparison leaves one such folder a structure, comparison.json and comparison.svg; a
/// compression leaves compression.json and compression.svg.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    #[command(flatten)]
    pub text: TextArguments,
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub training: TrainingArguments,
    #[command(flatten)]
    pub compression: CompressionArguments,
    #[command(flatten)]
    pub run: RunArguments,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Text")]
pub struct TextArguments {
    /// Text files to train on; the last tenth is held out unless --valid-text is given
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with = "train_tokens")]
    pub text: Vec<PathBuf>,
    /// Text files to validate on
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with = "train_tokens")]
    pub valid_text: Vec<PathBuf>,
    /// Token file to train on, in the layout of nanoGPT or llm.c
    #[arg(long, value_name = "FILE", requires = "valid_tokens")]
    pub train_tokens: Option<PathBuf>,
    /// Token file to validate on
    #[arg(long, value_name = "FILE", requires = "train_tokens")]
    pub valid_tokens: Option<PathBuf>,
    /// How text becomes tokens: bytes, chars, gpt2, or a Hugging Face tokenizer.json [default: that of --init-from, gpt2 for
    /// token files, else bytes]
    #[arg(long, value_name = "NAME|FILE")]
    pub tokenizer: Option<String>,
    /// Only write the tokens of the text to <OUT>/train.bin and <OUT>/valid.bin, and the tokenizer beside them
    #[arg(long, conflicts_with = "train_tokens")]
    pub prepare: bool,
    /// Layout of the files that --prepare writes
    #[arg(long, value_enum, default_value = "nanogpt", requires = "prepare")]
    pub format: Format,
}

/// Layouts of token files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Token ids of 16 bits and nothing else
    Nanogpt,
    /// The same after a header of 256 numbers
    Llmc,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelArguments {
    /// Size of the model
    #[arg(long, value_enum, default_value = "nano")]
    pub preset: Preset,
    /// Transformer blocks [default: the preset's]
    #[arg(long)]
    pub depth: Option<usize>,
    /// Attention heads of a block [default: the preset's]
    #[arg(long)]
    pub heads: Option<usize>,
    /// Features of a token [default: the preset's]
    #[arg(long)]
    pub features: Option<usize>,
    /// Tokens that the model sees [default: the preset's]
    #[arg(long)]
    pub context: Option<usize>,
    /// Dropout probability
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f64,
    /// Structure of the linear layers: dense, blast, low-rank, ss1, monarch, …, with settings as in blast:b=4,ratio=0.4, or
    /// rules of which the first that fits a layer counts: first=dense;attention=blast:b=4;mlp=low-rank:r=8
    #[arg(long, default_value = "dense", conflicts_with_all = ["compare", "compress"])]
    pub structure: LayerRules,
    /// Structure of the head, which else is the token embedding
    #[arg(long)]
    pub head: Option<Structure>,
    /// Train each of these alike: dense,blast,ss1,monarch,low-rank; repeat it for rules
    #[arg(long, value_name = "STRUCTURES", value_parser = parse_structures)]
    pub compare: Vec<Structures>,
    /// Start from the weights in this folder, of Hugging Face or of this program
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["depth", "heads", "features", "context", "structure", "head", "compare"])]
    pub init_from: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Training")]
pub struct TrainingArguments {
    /// Updates of the weights [default: 2000]
    #[arg(long)]
    pub steps: Option<usize>,
    /// Sequences of a step [default: 12]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Parts of a step that are computed one after another
    #[arg(long, default_value_t = 1)]
    pub accumulation: usize,
    /// Peak learning rate [default: 1e-3]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Learning rate at the end [default: a tenth of the peak]
    #[arg(long)]
    pub min_lr: Option<f64>,
    /// Try each of these rates first, and train with the best, for each structure: 5e-4,1e-3,2e-3
    #[arg(long, value_delimiter = ',', value_name = "RATES", conflicts_with = "init_from")]
    pub lr_search: Vec<f64>,
    /// Steps of each trial [default: a third of --steps]
    #[arg(long, requires = "lr_search")]
    pub search_steps: Option<usize>,
    /// Steps of warm-up [default: a twentieth of --steps, at most 100]
    #[arg(long)]
    pub warmup: Option<usize>,
    /// What updates the weights: adamw or muon
    #[arg(long, default_value = "adamw")]
    pub optimizer: Optimizer,
    /// Decays of AdamW's means
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = "0.9,0.95", value_name = "B1,B2")]
    pub betas: Vec<f64>,
    /// Decoupled decay of weights, factors and embeddings
    #[arg(long, default_value_t = 0.1)]
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 is no limit
    #[arg(long, default_value_t = 1.0)]
    pub clip: f64,
    /// Learning rates of structured layers' factors: 0 is one for all, 1 in inverse proportion to the features each sums
    #[arg(long, default_value_t = 0.0)]
    pub factor_rates: f64,
    /// Recompute cheap operations in the backward pass to save memory
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Numbers to compute with: f32, or bf16 on a device that has them
    #[arg(long, default_value = "f32")]
    pub dtype: Precision,
    /// Seeds of the weights and the data; a comparison trains each structure with every seed
    #[arg(long, value_delimiter = ',', default_value = "42")]
    pub seeds: Vec<u64>,
    /// Steps between evaluations, with a checkpoint and a sample after each [default: a fifth of --steps]
    #[arg(long)]
    pub eval_interval: Option<usize>,
    /// Batches of an evaluation between steps
    #[arg(long, default_value_t = 20)]
    pub eval_batches: usize,
    /// Tokens that are scored in each window of the last evaluation; 0 is the whole context [default: half of it]
    #[arg(long)]
    pub stride: Option<usize>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Compression")]
pub struct CompressionArguments {
    /// Compress the dense model of --init-from to each of these: blast,low-rank:ratio=0.5; repeat it for rules
    #[arg(long, value_name = "STRUCTURES", value_parser = parse_structures, requires = "init_from")]
    pub compress: Vec<Structures>,
    /// Retrain each compressed model: 10min, 90s, 200steps, or 10% of the dense model's training time
    #[arg(long, requires = "compress")]
    pub retrain: Option<Budget>,
    /// Windows of the training text that the layers' inputs are gathered from; 0 compresses without them
    #[arg(long, default_value_t = 128)]
    pub calibration: usize,
    /// Steps of a factorization
    #[arg(long, default_value_t = 60)]
    pub factorizer_steps: usize,
    /// Weight of the dense model's predictions in the loss of retraining
    #[arg(long, default_value_t = 1.0)]
    pub teacher: f64,
    /// Temperature of these predictions
    #[arg(long, default_value_t = 2.0)]
    pub temperature: f64,
    /// Weight of the dense model's hidden states
    #[arg(long, default_value_t = 0.0)]
    pub hidden: f64,
    /// Weight of the text itself
    #[arg(long, default_value_t = 1.0)]
    pub cross_entropy: f64,
    /// Retrain the factors only
    #[arg(long)]
    pub factors_only: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub struct RunArguments {
    /// Only print the perplexity of the model of --init-from
    #[arg(long, requires = "init_from", conflicts_with = "compress")]
    pub evaluate: bool,
    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features; several share each step
    #[arg(long, value_delimiter = ',', default_value = "flex", value_name = "DEVICES")]
    pub devices: Vec<String>,
    /// Let every device update its own copy of the weights, after the gradients have been exchanged
    #[arg(long)]
    pub ddp: bool,
    /// Where to write
    #[arg(long, default_value = "runs/gpt2_text")]
    pub out: PathBuf,
    /// Continue a run that was stopped, after its last checkpoint; a finished one is only shown
    #[arg(long, conflicts_with_all = ["fresh", "compress", "evaluate"])]
    pub resume: bool,
    /// Drop an earlier run in --out, finished or not
    #[arg(long)]
    pub fresh: bool,
    /// Text that the samples continue [default: "The "]
    #[arg(long)]
    pub prompt: Option<String>,
    /// New tokens of a sample; 0 for none
    #[arg(long, default_value_t = 100)]
    pub sample_tokens: usize,
}

/// The structures of one `--compare` or `--compress`.
#[derive(Clone, Debug)]
pub struct Structures(pub Vec<LayerRules>);

fn parse_structures(text: &str) -> Result<Structures, String> {
    let rules: Result<Vec<LayerRules>, _> = split_structures(text).iter().map(|text| text.parse()).collect();
    rules.map(Structures).map_err(|error| error.to_string())
}

/// The entries of all occurrences of `--compare` or `--compress`.
pub fn all(given: &[Structures]) -> Vec<LayerRules> {
    given.iter().flat_map(|Structures(rules)| rules.clone()).collect()
}

impl ModelArguments {
    /// The model for this many different tokens, with these structures.
    pub fn config(&self, vocab_size: usize, structures: LayerRules) -> Gpt2Config {
        let mut config = self.preset.config(vocab_size);
        config.depth = self.depth.unwrap_or(config.depth);
        config.heads = self.heads.unwrap_or(config.heads);
        config.d_model = self.features.unwrap_or(config.d_model);
        config.context = self.context.unwrap_or(config.context);
        config.with_dropout(self.dropout).with_structures(structures).with_head(self.head)
    }
}

impl TrainingArguments {
    /// The recipe of a run with this seed, for a model of this context.
    pub fn recipe(&self, context: usize, seed: u64) -> Result<LanguageRecipe, String> {
        let [beta_1, beta_2] = self.betas[..] else {
            return Err(format!("--betas needs two numbers, as in 0.9,0.95, not {}", self.betas.len()));
        };
        let stride = match self.stride {
            None => context.div_ceil(2),
            Some(0) => context,
            Some(stride) if stride > context => {
                return Err(format!(
                    "--stride {stride} is more than the context of {context}; tokens would be left out"
                ));
            }
            Some(stride) => stride,
        };
        let usual = LanguageRecipe::nano_gpt_cpu();
        let steps = self.steps.unwrap_or(usual.steps);
        let lr = self.lr.unwrap_or(usual.lr);
        Ok(LanguageRecipe {
            steps,
            batch_size: self.batch_size.unwrap_or(usual.batch_size),
            accumulation: self.accumulation,
            lr,
            min_lr: self.min_lr.unwrap_or(lr / 10.0),
            warmup_steps: self.warmup.unwrap_or((steps / 20).min(100)),
            optimizer: self.optimizer,
            beta_1,
            beta_2,
            weight_decay: self.weight_decay,
            factor_rates: self.factor_rates,
            clip_norm: (self.clip != 0.0).then_some(self.clip),
            gradient_checkpointing: self.gradient_checkpointing,
            precision: self.dtype,
            seed,
            eval_interval: self.eval_interval.unwrap_or(steps.div_ceil(5)),
            eval_batches: self.eval_batches,
            eval_stride: stride,
        })
    }
}
