//! `burn-structured inspect`: the tensors of a checkpoint, and which of them are the weights of linear layers.

use super::Answer;
use crate::failure::Failure;
use crate::format::{bytes, count, percent, shape};
use crate::model::open;
use crate::table::Table;
use burn_structured_checkpoint::{
    Checkpoint, Family, LayerEntry, LinearInfo, MANIFEST_KEY, Manifest, Orientation, family, linears,
};
use clap::{Args, ValueHint};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// List tensors, shapes and types, and which weights can be compressed
///
/// A weight is stored as [out, in], or as [in, out] by GPT-2's Conv1D. `fused` marks layers that hold several in one,
/// such as c_attn with query, key and value.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured inspect all-MiniLM-L6-v2
  burn-structured inspect model.safetensors.index.json --linears
  burn-structured inspect gpt2 --json | jq '.totals'")]
pub struct Arguments {
    /// A model folder, a safetensors file, or the index of several
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// List only the linear layers that can be compressed
    #[arg(long)]
    linears: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    files: Vec<String>,
    family: Family,
    tensors: Vec<TensorRow>,
    linears: Vec<LinearInfo>,
    totals: Totals,
    metadata: BTreeMap<String, String>,
    /// What a compressed checkpoint says of itself.
    compressed: Option<Manifest>,
}

#[derive(Serialize)]
struct TensorRow {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    parameters: u64,
    bytes: u64,
    /// The linear layer that the tensor belongs to.
    layer: Option<String>,
}

#[derive(Serialize)]
struct Totals {
    tensors: usize,
    parameters: u64,
    bytes: u64,
    /// Parameters by number type.
    dtypes: BTreeMap<String, u64>,
    blocks: usize,
    linears: usize,
    /// Weights of the linear layers that can be compressed, without biases.
    linear_weights: u64,
    /// Layers that are compressed already, and the numbers that they are stored as.
    compressed_layers: usize,
    compressed_parameters: u64,
}

/// The list.
///
/// # Errors
///
/// If the checkpoint cannot be read or is not valid.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let checkpoint = open(&arguments.model)?;
    let report = report(&checkpoint)?;
    Answer::new(text(&report, arguments.linears), &report)
}

fn report(checkpoint: &Checkpoint) -> Result<Report, Failure> {
    let found = linears(checkpoint);
    let compressed = checkpoint.manifest()?;
    let weights: BTreeMap<&str, &LinearInfo> = found.iter().map(|linear| (linear.weight.as_str(), linear)).collect();
    let layer_of = |tensor: &str| {
        let dense = weights.get(tensor).map(|linear| linear.name.clone());
        let structured = || {
            let (layer, _) = tensor.rsplit_once('.')?;
            compressed.as_ref()?.layers.contains_key(layer).then(|| layer.to_string())
        };
        dense.or_else(structured)
    };
    let tensors: Vec<TensorRow> = checkpoint
        .tensors()
        .map(|tensor| {
            let parameters = tensor.elements() as u64;
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            let bytes = tensor.byte_len() as u64;
            TensorRow { layer: layer_of(&name), name, dtype: format!("{:?}", tensor.dtype), shape, parameters, bytes }
        })
        .collect();
    let mut totals = Totals {
        tensors: tensors.len(),
        parameters: tensors.iter().map(|tensor| tensor.parameters).sum(),
        bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
        dtypes: BTreeMap::new(),
        blocks: found.iter().filter_map(|linear| linear.block).max().map_or(0, |last| last + 1),
        linears: found.len(),
        linear_weights: found.iter().map(|linear| (linear.d_input * linear.d_output) as u64).sum(),
        compressed_layers: compressed.as_ref().map_or(0, |manifest| manifest.layers.len()),
        compressed_parameters: 0,
    };
    for tensor in &tensors {
        *totals.dtypes.entry(tensor.dtype.clone()).or_default() += tensor.parameters;
        if tensor.layer.is_some() && !weights.contains_key(tensor.name.as_str()) && !tensor.name.ends_with(".bias") {
            totals.compressed_parameters += tensor.parameters;
        }
    }
    Ok(Report {
        model: checkpoint.path().display().to_string(),
        files: checkpoint.files().iter().map(|file| file.display().to_string()).collect(),
        family: family(checkpoint),
        tensors,
        linears: found,
        totals,
        metadata: checkpoint.metadata().iter().filter(|(key, _)| *key != MANIFEST_KEY).map(owned).collect(),
        compressed,
    })
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

fn layout(orientation: Orientation) -> &'static str {
    match orientation {
        Orientation::OutIn => "[out, in]",
        Orientation::InOut => "[in, out]",
    }
}

fn text(report: &Report, linears_only: bool) -> String {
    let totals = &report.totals;
    let dtypes: Vec<&str> = totals.dtypes.keys().map(String::as_str).collect();
    let files = match &report.files[..] {
        [_] => "1 file".to_string(),
        files => format!("{} files", files.len()),
    };
    let mut text = format!(
        "{}: family {}, {} tensors in {files}, {} parameters, {}, {}\n\n",
        report.model,
        report.family,
        totals.tensors,
        count(totals.parameters),
        bytes(totals.bytes),
        dtypes.join(" and ")
    );
    let linears: BTreeMap<&str, &LinearInfo> = report.linears.iter().map(|row| (row.name.as_str(), row)).collect();
    let mut table = Table::new(&["tensor", "type", "shape", ">parameters", "linear layer"]);
    for tensor in &report.tensors {
        let linear = tensor.layer.as_deref().and_then(|layer| linears.get(layer));
        let note = match (linear, &report.compressed, &tensor.layer) {
            (Some(linear), _, _) => describe(linear),
            (None, Some(manifest), Some(layer)) => {
                manifest.layers.get(layer).map_or_else(String::new, describe_compressed)
            }
            _ => String::new(),
        };
        if !linears_only || !note.is_empty() {
            let parameters = tensor.parameters.to_string();
            table.row([tensor.name.clone(), tensor.dtype.clone(), shape(&tensor.shape), parameters, note]);
        }
    }
    text += &format!("{table}\n");
    let blocks = if totals.blocks > 0 { format!(" in {} blocks", totals.blocks) } else { String::new() };
    text += &format!(
        "{} dense linear layers{blocks}: {} weights, {} of all parameters\n",
        totals.linears,
        count(totals.linear_weights),
        percent(totals.linear_weights, totals.parameters)
    );
    if totals.compressed_layers > 0 {
        text += &format!(
            "{} compressed layers: {} numbers, {} of all parameters\n",
            totals.compressed_layers,
            count(totals.compressed_parameters),
            percent(totals.compressed_parameters, totals.parameters)
        );
    }
    text
}

fn describe_compressed(entry: &LayerEntry) -> String {
    format!("{}{}", entry.structure, if entry.int8 { ", int8" } else { "" })
}

fn describe(linear: &LinearInfo) -> String {
    let fused = if linear.fused { ", fused" } else { "" };
    format!("{} → {}, {}{fused}", linear.d_input, linear.d_output, layout(linear.orientation))
}
