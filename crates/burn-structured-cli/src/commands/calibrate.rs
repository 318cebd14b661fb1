//! `burn-structured calibrate`: what the inputs of a model's layers look like on text.

use super::Answer;
use crate::arguments::{DeviceArgument, TextArguments};
use crate::context::Context;
use crate::failure::{Failure, check_writable};
use crate::format::count;
use crate::model::{self, Model, cannot_run, open, with_decoder};
use crate::statistics::observe;
use crate::text;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::calibrate::Calibrator;
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Collect statistics of the layers' inputs on raw text, or merge them
///
/// The statistics are the second moments of the inputs of each linear layer. With them, `plan` and `compress` weigh the
/// errors of weights by what they change in the layers' outputs. Files of several texts or machines can be merged.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured calibrate all-MiniLM-L6-v2 --text lines.txt -o stats.safetensors
  burn-structured calibrate gpt2 --text book.txt --samples 64 -o stats.safetensors
  burn-structured calibrate --merge a.safetensors b.safetensors -o both.safetensors")]
pub struct Arguments {
    /// A folder with a BERT sentence encoder, a GPT-2 or a Llama
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath, required_unless_present = "merge", requires = "text")]
    model: Option<PathBuf>,
    #[command(flatten)]
    text: TextArguments,
    /// Merge these files of statistics instead
    #[arg(long, value_name = "STATS", num_args = 1.., value_hint = ValueHint::FilePath, conflicts_with_all = ["model", "text"])]
    merge: Vec<PathBuf>,
    /// The file to write; an earlier one is replaced
    #[arg(short, long, value_name = "STATS", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Writes the statistics.
///
/// # Errors
///
/// If a file cannot be read or written, or the model or the text cannot be used.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    check_writable(&arguments.output)?;
    let statistics = match &arguments.model {
        Some(model) => collect(arguments, &open(model)?, context)?,
        None => merge(&arguments.merge)?,
    };
    statistics.save(&arguments.output)?;
    let output = arguments.output.display().to_string();
    let layers: BTreeMap<&str, u64> = statistics.moments().map(|(name, moment)| (name, moment.tokens())).collect();
    let tokens = layers.values().max().copied().unwrap_or(0);
    let text = format!("{output}: {} layers, {} tokens\n", layers.len(), count(tokens));
    Answer::new(text, &json!({ "output": output, "tokens": tokens, "layers": layers }))
}

fn merge(files: &[PathBuf]) -> Result<Calibrator, Failure> {
    let mut merged = Calibrator::new();
    for path in files {
        let statistics = Calibrator::load(path)?;
        merged.merge(&statistics).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    Ok(merged)
}

fn collect(arguments: &Arguments, checkpoint: &Checkpoint, context: &Context) -> Result<Calibrator, Failure> {
    let TextArguments { text: files, samples, tokenizer } = &arguments.text;
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    match Model::load(checkpoint, &device)? {
        Model::Encoder(encoder) => {
            arguments.text.check_for_encoder()?;
            let lines = text::read_lines(files)?;
            let numbers = text::spread(lines.len(), samples.unwrap_or(text::LINES));
            let batches = text::sentence_batches(&lines, &numbers, &encoder.tokenizer, &device)?;
            observe(&encoder.model, &batches, context)
        }
        Model::Language(model) => with_decoder!(&model, model => {
            let tokenizer = model::tokenizer(checkpoint, &**model, tokenizer.as_deref())?;
            let tokens = text::read_tokens(files, &tokenizer)?;
            let windows = text::Windows::new(&tokens, model.context(), model.vocab_size())?;
            let numbers = text::spread(windows.count(), samples.unwrap_or(text::WINDOWS));
            observe(&**model, &windows.batches(&numbers, &device)?, context)
        }),
        Model::Other => Err(cannot_run(checkpoint, "calibrate")),
    }
}
