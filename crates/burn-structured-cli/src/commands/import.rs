//! `burn-structured import`: compressed layers in the layout of the BLAST paper's code.

use super::Answer;
use crate::failure::Failure;
use crate::format::bytes;
use burn_structured_checkpoint::authors::{CouplingOrder, blast};
use burn_structured_checkpoint::{Checkpoint, Manifest, StateDict, write};
use clap::{Args, ValueEnum, ValueHint};
use serde_json::json;
use std::path::PathBuf;

/// The program, for the manifest of what it writes.
const TOOL: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Convert a checkpoint with BLAST layers from the layout of the paper's code
///
/// A layer there is three tensors: NAME.B, NAME.C and NAME.D. The result describes its layers itself, as what
/// `compress` writes: `inspect`, `to-dense` and the libraries read it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured import blast-gpt2.safetensors -o imported.safetensors
  burn-structured import factors.safetensors --couplings rank-first -o imported.safetensors")]
pub struct Arguments {
    /// A model folder, a safetensors file, or the index of several
    #[arg(value_name = "CHECKPOINT", value_hint = ValueHint::AnyPath)]
    checkpoint: PathBuf,
    /// The order of the axes of D, where its shape leaves that open
    #[arg(long, value_enum, value_name = "ORDER")]
    couplings: Option<Order>,
    /// The safetensors file to write
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// Replace an earlier file
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// [b1, b2, r], as in the model's code
    BlocksFirst,
    /// [r, b1, b2], as the factorizer's code saves them
    RankFirst,
}

/// Writes the converted checkpoint.
///
/// # Errors
///
/// If the checkpoint cannot be read, has no such layer, or the file cannot be written.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let (path, output) = (arguments.checkpoint.display(), arguments.output.display());
    if arguments.output.exists() && !arguments.force {
        return Err(Failure::new(format!("{output} exists; choose another file, or pass --force to replace it")));
    }
    let order = arguments.couplings.map(|order| match order {
        Order::BlocksFirst => CouplingOrder::BlocksFirst,
        Order::RankFirst => CouplingOrder::RankFirst,
    });
    let StateDict { tensors, layers } = blast(&checkpoint, order).map_err(|error| open_order(error, order))?;
    if layers.is_empty() {
        let message = format!("{path} has no layer with the three tensors B, C and D");
        return Err(Failure::new(message + "; pass a checkpoint of the BLAST paper's code"));
    }
    let names: Vec<String> = layers.keys().cloned().collect();
    let mut metadata = checkpoint.metadata().clone();
    Manifest { layers, ..Manifest::new(TOOL, 0) }.insert_into(&mut metadata);
    write(&arguments.output, &tensors, &metadata)?;
    let size: u64 = tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum();
    let text = format!("wrote {output}: {} BLAST layers, {} tensors, {}\n", names.len(), tensors.len(), bytes(size));
    Answer::new(
        text,
        &json!({ "output": output.to_string(), "layers": names, "tensors": tensors.len(), "bytes": size }),
    )
}

/// Names the option that settles the order, if that is what is missing.
fn open_order(error: burn_structured_checkpoint::CheckpointError, order: Option<CouplingOrder>) -> Failure {
    let message = error.to_string();
    let hint = if order.is_none() && message.contains("order") { " with --couplings" } else { "" };
    Failure::new(message + hint)
}
