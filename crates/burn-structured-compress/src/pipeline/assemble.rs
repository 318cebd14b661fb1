//! From finished units to an output.

use super::error::writing;
use super::quantize::{Quantized, quantized};
use super::store::{Store, sha256_of};
use super::tensors::{TOOL, UnitReport, unit_report, weight_error};
use super::{Event, Finished, Observer, PipelineError, companions};
use crate::CompressError;
use crate::plan::{Change, PlanTable, Planned, Size};
use crate::report::{FileEntry, LayerResult, Report, RunInfo};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Device;
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, LayerEntry, Manifest, TensorData};
use burn_structured_nn::{Structure, StructuredLinear};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file with the tensors of an output.
pub(super) const MODEL: &str = "model.safetensors";

/// What was compressed.
pub(super) struct Job<'a> {
    pub source: &'a Checkpoint,
    /// All linear layers of the source.
    pub planned: &'a [Planned],
    pub seed: u64,
    /// Whether all linear layers get int8 weights, those that stay dense among them.
    pub int8: bool,
    pub device: &'a Device,
}

/// Weights as int8, all in memory: a quarter of the floats.
#[derive(Default)]
pub(super) struct Integers {
    /// The floats that they take the place of, wherever those are.
    pub replaced: BTreeSet<String>,
    /// Integers, scales and what stays floats.
    pub tensors: Vec<TensorData<'static>>,
}

/// The names of a layer's tensors but its bias.
pub(super) fn factors_of<'a>(checkpoint: &'a Checkpoint, layer: &str) -> impl Iterator<Item = &'a str> {
    let own = checkpoint.tensors_of(layer).filter(|(factor, _)| *factor != "bias" && !factor.contains('.'));
    own.map(|(_, tensor)| tensor.name.as_str())
}

/// A compressed layer.
struct Found {
    entry: LayerEntry,
    /// The shard that holds it; none if it is a dense layer that is quantized.
    shard: Option<usize>,
}

/// Makes the output of a run whose units are finished.
///
/// # Errors
///
/// If a shard cannot be read, or the output cannot be written.
pub(super) fn compressed(store: Store, job: &Job<'_>, observer: &mut Observer<'_>) -> Result<Finished, CompressError> {
    let began = Instant::now();
    if observer(&Event::Assemble).is_break() {
        return Err(store.interrupted().into());
    }
    let Job { source, planned, seed, int8, device } = *job;
    let shards = (0..store.units().len()).map(|unit| store.shard(unit)).collect::<Result<Vec<_>, _>>()?;
    let reports = shards.iter().map(unit_report).collect::<Result<Vec<_>, _>>()?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (shard, file) in shards.iter().enumerate() {
        for (name, entry) in file.manifest()?.map(|manifest| manifest.layers).unwrap_or_default() {
            found.insert(name, Found { entry, shard: Some(shard) });
        }
    }
    let mut integers = Integers::default();
    for Planned { layer, .. } in planned {
        let shard = found.get(&layer.name).and_then(|found| found.shard);
        if shard.is_none() && !int8 {
            continue;
        }
        // What is said of the dense weight is what is known of it, whatever the model says.
        let dtype = source.tensor(&layer.weight).map_or(Dtype::F32, |weight| weight.dtype);
        let describe = || -> Result<(LayerEntry, Vec<TensorData<'static>>), CompressError> {
            let compressed = match shard {
                Some(shard) => checkpoint::layer(&shards[shard], &layer.name, device)?,
                None => {
                    // As it was trained, if it was.
                    let trained = shards.iter().rev().find(|shard| shard.tensor(&layer.weight).is_some());
                    let (weight, _) = checkpoint::dense_layer(trained.unwrap_or(source), layer, device)?;
                    let weight = Param::from_tensor(weight.transpose());
                    StructuredLinear::Dense(Linear { weight, bias: None })
                }
            };
            let (dense, _) = checkpoint::dense_layer(source, layer, device)?;
            if int8 {
                let Quantized { entry, tensors } = quantized(&layer.name, compressed, dense, layer.orientation, dtype)?;
                return Ok((entry, tensors));
            }
            let error = weight_error(&dense.into_data(), &compressed.to_dense().into_data())?;
            Ok((checkpoint::layer_entry(&compressed, layer.orientation, dtype, Some(error))?, Vec::new()))
        };
        let (entry, tensors) = describe().map_err(|error| error.in_layer(&layer.name))?;
        if int8 {
            integers.replaced.insert(layer.weight.clone());
            let factors = shard.into_iter().flat_map(|shard| factors_of(&shards[shard], &layer.name));
            integers.replaced.extend(factors.map(str::to_string));
        }
        integers.tensors.extend(tensors);
        found.insert(layer.name.clone(), Found { entry, shard });
    }
    let weights = planned.iter().filter(|planned| found.contains_key(&planned.layer.name));
    let removed: BTreeSet<&str> = weights.map(|planned| planned.layer.weight.as_str()).collect();
    let fingerprint = store.identity().get("model").unwrap_or_default().to_string();
    let layers = found.iter().map(|(name, found)| (name.clone(), found.entry.clone())).collect();
    let manifest = Manifest { source: Some(fingerprint.clone()), layers, ..Manifest::new(TOOL, seed) };
    let mut metadata = source.metadata().clone();
    manifest.insert_into(&mut metadata);

    let folder = store.assembly()?;
    write_model(&folder, source, &removed, &shards, &integers, &metadata)?;
    companions::copy(source, &folder)?;
    let written = Checkpoint::open(folder.join(MODEL))?;
    // Read back as others will.
    written.manifest()?;
    let table = PlanTable::new(source, planned);
    let report = Report {
        format: crate::report::FORMAT,
        tool: TOOL.to_string(),
        executor: store.identity().get("executor").unwrap_or_default().to_string(),
        run: store.identity().id(),
        seed,
        model: name_of(source),
        source: fingerprint,
        settings: settings(&store),
        layers: layer_results(planned, &table, &found, &integers.tensors, &reports)?,
        blocks: reports.iter().filter_map(|report| report.block.clone()).collect(),
        distillation: reports.iter().find_map(|report| report.distillation),
        linear: table.totals.linear,
        file: Change {
            before: table.totals.file.before,
            after: Size { flops_per_token: table.totals.linear.after.flops_per_token, ..size_of(&written) },
        },
        changed: changed(source, &shards),
        files: files_in(&folder)?,
    };
    drop((written, shards));
    report.save(&folder)?;
    let seconds = store.seconds() + began.elapsed().as_secs_f64();
    let run = RunInfo::now(store.output().command.clone(), seconds, format!("{device:?}"));
    run.save(&folder)?;
    let path = store.complete()?;
    Ok(Finished { path, report, run })
}

/// Writes the tensors of `source` except those that are `removed`, with those of the shards, later ones in the place of earlier
/// ones, and `integers` in the place of the floats that they replace.
///
/// # Errors
///
/// If a tensor cannot be read, or the file not be written.
pub(super) fn write_model(
    folder: &Path,
    source: &Checkpoint,
    removed: &BTreeSet<&str>,
    shards: &[Checkpoint],
    integers: &Integers,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CompressError> {
    let mut tensors: BTreeMap<&str, TensorData<'_>> = BTreeMap::new();
    for file in [source].into_iter().chain(shards) {
        for tensor in file.tensors() {
            let bytes = Cow::Borrowed(file.bytes(&tensor.name)?);
            let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
            tensors.insert(&tensor.name, TensorData { name, dtype, shape, bytes });
        }
        if std::ptr::eq(file, source) {
            tensors.retain(|name, _| !removed.contains(name));
        }
    }
    tensors.retain(|name, _| !integers.replaced.contains(*name));
    tensors.extend(integers.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.clone())));
    let tensors: Vec<TensorData<'_>> = tensors.into_values().collect();
    checkpoint::write(&folder.join(MODEL), &tensors, metadata).map_err(writing)
}

fn layer_results(
    planned: &[Planned],
    table: &PlanTable,
    found: &BTreeMap<String, Found>,
    integers: &[TensorData<'_>],
    reports: &[UnitReport],
) -> Result<Vec<LayerResult>, CompressError> {
    let result = |(planned, row): (&Planned, &crate::plan::PlanRow)| {
        let layer = &planned.layer;
        let entry = found.get(&layer.name).map(|found| &found.entry);
        let structure = entry.map(|entry| entry.structure.parse::<Structure>()).transpose();
        Ok(LayerResult {
            name: layer.name.clone(),
            block: layer.block,
            d_input: layer.d_input,
            d_output: layer.d_output,
            orientation: layer.orientation,
            structure: structure.map_err(crate::plan::PlanError::from)?,
            before: row.before,
            after: match entry.filter(|entry| entry.int8) {
                Some(_) => int8_size(&layer.name, integers, row.after.flops_per_token),
                None => row.after,
            },
            weight_error: entry.and_then(|entry| entry.relative_error),
            output_error: reports.iter().find_map(|report| report.output_errors.get(&layer.name).copied()),
        })
    };
    planned.iter().zip(&table.rows).map(result).collect()
}

/// What a layer of int8 weights takes, without its bias.
fn int8_size(layer: &str, integers: &[TensorData<'_>], flops_per_token: usize) -> Size {
    let own = |tensor: &&TensorData<'_>| tensor.name.rsplit_once('.').is_some_and(|(name, _)| name == layer);
    let tensors: Vec<_> = integers.iter().filter(own).collect();
    Size {
        params: tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum(),
        flops_per_token,
        bytes: tensors.iter().map(|tensor| tensor.bytes.len()).sum(),
    }
}

/// Tensors of the source that have other values in the shards.
fn changed(source: &Checkpoint, shards: &[Checkpoint]) -> Vec<String> {
    let mut last: BTreeMap<&str, &Checkpoint> = BTreeMap::new();
    for shard in shards {
        last.extend(shard.tensors().map(|tensor| (tensor.name.as_str(), shard)));
    }
    let differs = |(name, shard): &(&str, &Checkpoint)| match (source.bytes(name), shard.bytes(name)) {
        (Ok(before), Ok(after)) => before != after,
        _ => false,
    };
    last.into_iter().filter(differs).map(|(name, _)| name.to_string()).collect()
}

/// The settings of a run, without what the report has in other places.
fn settings(store: &Store) -> BTreeMap<String, String> {
    let identity = store.identity();
    let named = identity.within("settings.").map(|(name, value)| (name.trim_start_matches("settings."), value));
    let data = identity.get("data").map(|data| ("data", data));
    let all = named.chain(data).map(|(name, value)| (name.to_string(), value.to_string()));
    let decided = store.decisions().iter().map(|(name, value)| (name.clone(), value.to_string()));
    all.chain(decided).collect()
}

pub(super) fn size_of(checkpoint: &Checkpoint) -> Size {
    Size {
        params: checkpoint.tensors().map(|tensor| tensor.elements()).sum(),
        flops_per_token: 0,
        bytes: checkpoint.tensors().map(|tensor| tensor.byte_len()).sum(),
    }
}

/// The name of a checkpoint's folder, or of its file.
pub(super) fn name_of(checkpoint: &Checkpoint) -> String {
    let path = checkpoint.path().canonicalize().unwrap_or_else(|_| checkpoint.path().to_owned());
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The files in a folder and those below, with their hashes, by path.
pub(super) fn files_in(folder: &Path) -> Result<Vec<FileEntry>, PipelineError> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).map_err(PipelineError::read(&next))? {
            let path = entry.map_err(PipelineError::read(&next))?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let parts = path.strip_prefix(folder).unwrap_or(&path).components();
            let parts: Vec<String> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            let bytes = fs::metadata(&path).map_err(PipelineError::read(&path))?.len();
            let sha256 = sha256_of(&path).map_err(PipelineError::read(&path))?;
            found.push(FileEntry { path: parts.join("/"), bytes, sha256 });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
