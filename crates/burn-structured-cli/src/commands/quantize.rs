//! `burn-structured quantize`: int8 weights for a model, compressed or not.

use super::Answer;
use super::compress::{Events, command_line};
use crate::arguments::DeviceArgument;
use crate::context::Context;
use crate::failure::Failure;
use crate::format::{bytes, percent};
use crate::model::open;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::pipeline::{self, Output};
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::PathBuf;

/// Give the linear layers of a model int8 weights, whether it is compressed or not
///
/// Every factor, or dense weight, becomes integers from -127 to 127 with a scale for each output; biases, norms and embeddings stay as
/// they are. The result is executed on integers: its inputs are quantized for each token as they come. It takes no calibration. Train
/// first: the integers are fixed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured quantize small -o small-int8
  burn-structured quantize all-MiniLM-L6-v2 -o int8
  burn-structured eval all-MiniLM-L6-v2 small small-int8 --sts sts-dev.csv --record
  burn-structured report small-int8 --with small")]
pub struct Arguments {
    /// A model folder, a safetensors file, or the index of several
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// The folder to write
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// Replace an earlier OUTPUT
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Writes the model with int8 weights.
///
/// # Errors
///
/// If the model cannot be read or a layer has no int8 form, or the output cannot be written; what is finished is kept.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let source = open(&arguments.model)?;
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let output = Output::new(&arguments.output).with_force(arguments.force).with_command(command_line());
    let events = Events::new(context, None, None);
    let path = pipeline::quantize(&source, &output, &device, &mut |event| events.observe(event))
        .map_err(|error| events.failure(error))?;
    let small = Checkpoint::open(&path)?;
    let layers = small.manifest()?.map_or(0, |manifest| manifest.layers.values().filter(|entry| entry.int8).count());
    let size = |checkpoint: &Checkpoint| checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum::<u64>();
    let (before, after) = (size(&source), size(&small));
    let path = path.display().to_string();
    let text = format!(
        "wrote {path}: {layers} layers as int8, {} → {}, {}\n",
        bytes(before),
        bytes(after),
        percent(after, before)
    );
    Answer::new(text, &json!({ "output": path, "layers": layers, "bytes_before": before, "bytes": after }))
}
