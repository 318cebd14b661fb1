//! `burn-structured compress`: a plan carried out.

mod answer;
mod blockwise;
mod estimate;
mod events;

use super::Answer;
use crate::arguments::{DeviceArgument, TextArguments};
use crate::context::Context;
use crate::distillation::{DistillArguments, minutes};
use crate::failure::Failure;
use crate::model::open;
use crate::text::at_least_one;
use burn_structured_compress::Budget;
use burn_structured_compress::calibrate::Calibrator;
use burn_structured_compress::pipeline::{Event, LayerwiseConfig, Output, compress_checkpoint};
use burn_structured_compress::plan::Plan;
use burn_structured_compress::sequential::SequentialConfig;
use burn_structured_train::device;
use clap::{Args, ValueHint};
pub use estimate::Length;
pub use events::Events;
use std::path::PathBuf;

/// Compress a model by a plan, layer by layer or, with text, block after block
///
/// Without text each layer is compressed by itself: to be near its weights or, with statistics, its outputs. With text
/// a BERT encoder, a GPT-2 or a Llama is compressed block after block, each layer fitted to what the compressed layers
/// before it give; then a block can be trained to give the dense block's outputs (--refine), and at the end the whole model to
/// give the dense model's (--distill). No labels are needed. Time for training becomes a number of steps once, so that
/// a run that is continued does the same steps.
///
/// The output folder is complete or absent. What is finished is kept in OUTPUT.partial meanwhile: after Ctrl-C, a crash
/// or a power cut the same command goes on there, and the result is the same to the last bit.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured compress model.safetensors --plan plan.toml -o small
  burn-structured compress gpt2 --plan plan.toml --calibration stats.safetensors -o gpt2-small
  burn-structured compress all-MiniLM-L6-v2 --plan plan.toml --text lines.txt \\
    --refine 10 --distill 10 -o small

In Rust, with the crate burn-structured and its features models, tokenizers and checkpoint:
  let device = burn::tensor::Device::flex();
  let encoder = SentenceEncoder::from_folder(\"small\", &device)?; // burn_structured::models::bert
  let embeddings = encoder.embed(&[\"A sentence.\", \"Another one.\"])?;
  let model = Gpt2::from_folder(\"gpt2-small\", &device)?; // burn_structured::models::gpt2
  let model = Llama::from_folder(\"llama-small\", &device)?; // burn_structured::models::llama
  // A model of your own, whose layers are burn_structured::nn::StructuredLinear
  use burn_structured::checkpoint::{Checkpoint, layer};
  let file = Checkpoint::open(\"small\")?;
  for (name, linear) in model.linears_mut() { *linear = layer(&file, &name, &device)?; }")]
pub struct Arguments {
    /// A model folder, a safetensors file, or the index of several
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The plan, a TOML file from `plan` or written by hand
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    plan: PathBuf,
    /// The folder to write
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// Statistics of the layers' inputs, from `calibrate`
    #[arg(long, value_name = "STATS", value_hint = ValueHint::FilePath, conflicts_with = "text")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    text: TextArguments,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    distillation: DistillArguments,
    /// In the end give all linear layers int8 weights, those that the plan keeps dense among them
    #[arg(long)]
    int8: bool,
    /// Seed of everything random
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Replace OUTPUT, and start anew if OUTPUT.partial was started with something else
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Fitting and training of the blocks.
#[derive(Args, Debug)]
struct TrainingArguments {
    /// Train the blocks, one after the other, for so many minutes in all
    #[arg(long, value_name = "MINUTES", requires = "text", value_parser = minutes)]
    refine: Option<f64>,
    /// Train each block for so many steps: the same result on every machine that computes alike
    #[arg(long, value_name = "STEPS", requires = "text", conflicts_with = "refine", value_parser = at_least_one)]
    refine_steps: Option<usize>,
    /// Shares of the dense model's inputs in what a layer is fitted to, separated by commas: each block takes the best, and a single
    /// one is used as it is
    #[arg(
        long,
        value_name = "SHARES",
        value_delimiter = ',',
        requires = "text",
        default_values_t = SequentialConfig::new().alphas,
        value_parser = alpha
    )]
    alphas: Vec<f64>,
}

impl TrainingArguments {
    /// How long each of `depth` blocks is trained, if it is.
    fn refinement(&self, depth: usize) -> Option<Budget> {
        let seconds = self.refine.map(|minutes| Budget::Seconds(60.0 * minutes / depth.max(1) as f64));
        self.refine_steps.map(Budget::Steps).or(seconds)
    }
}

/// A share from 0 to 1.
fn alpha(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give numbers from 0 to 1, such as 0.5,1".into()),
    }
}

/// Writes the compressed model.
///
/// # Errors
///
/// If a file cannot be read or written, the plan does not fit, or after Ctrl-C; what is finished is kept.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let checkpoint = open(&arguments.model)?;
    let plan = Plan::load(&arguments.plan)?;
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let output = Output::new(&arguments.output).with_force(arguments.force).with_command(command_line());
    let finished = if arguments.text.text.is_empty() {
        let calibration = arguments.calibration.as_ref().map(|path| Calibrator::load(path)).transpose()?;
        let config = LayerwiseConfig::new().with_seed(arguments.seed).with_int8(arguments.int8);
        let events = Events::new(context, None, None);
        let observer = &mut |event: &Event<'_>| events.observe(event);
        compress_checkpoint(&checkpoint, &plan, calibration.as_ref(), &config, &output, &device, observer)
            .map_err(|error| events.failure(error))?
    } else {
        let (checkpoint, plan, output, device) = (&checkpoint, &plan, &output, &device);
        blockwise::Job { arguments, checkpoint, plan, output, device, context }.run()?
    };
    answer::new(&finished, &arguments.model)
}

/// The command of this process, as a shell takes it.
pub fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|argument| quoted(&argument.to_string_lossy()));
    std::iter::once("burn-structured".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "-_./:=,+@%".contains(char);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_string();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_arguments_are_those_of_a_shell() {
        assert_eq!(
            [quoted("blast:b=6"), quoted("a b"), quoted("it's"), quoted("")],
            ["blast:b=6", "'a b'", r"'it'\''s'", "''"]
        );
    }
}
