//! `burn-structured to-dense`: a compressed model with dense weights, for tools that know nothing else.

use super::Answer;
use super::compress::Events;
use crate::arguments::DeviceArgument;
use crate::context::Context;
use crate::failure::Failure;
use crate::format::bytes;
use crate::model::open;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::pipeline::{self, Output};
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::PathBuf;

/// Write a compressed model with dense weights, under the original names
///
/// The result has the names, shapes and number types of the original, is as large, and computes what the compressed
/// model computes, in any tool that reads the original.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured to-dense small -o small-dense")]
pub struct Arguments {
    /// The folder or file that `compress` wrote
    #[arg(value_name = "COMPRESSED", value_hint = ValueHint::AnyPath)]
    compressed: PathBuf,
    /// The folder to write
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// Replace an earlier OUTPUT
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Writes the dense model.
///
/// # Errors
///
/// If the model is not compressed or cannot be read, or the output cannot be written; what is finished is kept.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let compressed = open(&arguments.compressed)?;
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let output = Output::new(&arguments.output).with_force(arguments.force);
    let events = Events::new(context, None, None);
    let path = pipeline::to_dense(&compressed, &output, &device, &mut |event| events.observe(event))
        .map_err(|error| events.failure(error))?;
    let dense = Checkpoint::open(&path)?;
    let tensors = dense.tensors().count();
    let size: u64 = dense.tensors().map(|tensor| tensor.byte_len() as u64).sum();
    let path = path.display().to_string();
    let text = format!("wrote {path}: {tensors} tensors, {}\n", bytes(size));
    Answer::new(text, &json!({ "output": path, "tensors": tensors, "bytes": size }))
}
