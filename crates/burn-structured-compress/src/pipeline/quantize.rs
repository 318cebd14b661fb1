//! Layers as int8, of a whole checkpoint or as the last step of a compression.

use super::assemble::{Integers, factors_of};
use super::store::{Identity, Opened, Store};
use super::tensors::{TOOL, UnitReport, shard_metadata, weight_error};
use super::{Observer, Output, PipelineError, assemble, companions, units};
use crate::CompressError;
use crate::plan::{Change, Size};
use crate::report::{LayerResult, Report, RunInfo};
use burn::tensor::{Device, Tensor};
use burn_structured_checkpoint::{
    self as checkpoint, Checkpoint, Dtype, LayerEntry, Manifest, Orientation, TensorData, linears,
};
use burn_structured_nn::{Structure, StructureError, StructuredLinear};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A layer as it is written.
pub(super) struct Quantized {
    pub entry: LayerEntry,
    /// Integers, scales and what stays floats, without the bias.
    pub tensors: Vec<TensorData<'static>>,
}

/// The int8 form of a layer, whose error is measured against its `dense` weight.
///
/// # Errors
///
/// If its structure has none, or its weights are no numbers.
pub(super) fn quantized(
    name: &str,
    layer: StructuredLinear,
    dense: Tensor<2>,
    orientation: Orientation,
    dtype: Dtype,
) -> Result<Quantized, CompressError> {
    let layer = layer.quantize()?;
    let error = weight_error(&dense.into_data(), &layer.to_dense().into_data())?;
    let entry = checkpoint::layer_entry(&layer, orientation, dtype, Some(error))?;
    let bias = format!("{name}.bias");
    let tensors = checkpoint::layer_tensors(name, &layer).into_iter().filter(|tensor| tensor.name != bias).collect();
    Ok(Quantized { entry, tensors })
}

/// Whether a layer of this structure can have int8 weights: before anything is computed.
///
/// # Errors
///
/// If it cannot; the message names the layer.
pub(super) fn check_int8(layer: &str, structure: Structure) -> Result<(), CompressError> {
    match structure.has_int8() {
        true => Ok(()),
        false => Err(CompressError::from(StructureError::NoInt8 { structure: structure.name() }).in_layer(layer)),
    }
}

/// A layer of a checkpoint that is to be quantized.
struct Float {
    name: String,
    block: Option<usize>,
    orientation: Orientation,
    dtype: Dtype,
}

/// Writes a checkpoint, compressed or not, with int8 weights in its linear layers: factors, or dense weights, become integers with a scale
/// for each output. Biases and all other tensors are taken over byte for byte, and so are the other files of the folder; the report is
/// that of the source, if it has one, with the new layers. One layer is in memory at a time.
///
/// Interrupted, it continues as every run, see the [module](crate::pipeline).
///
/// # Errors
///
/// If there is nothing to quantize, a layer cannot be read or its structure has no int8 form, the output is there already or cannot be
/// written, or `observer` breaks.
pub fn quantize(
    source: &Checkpoint,
    output: &Output,
    device: &Device,
    observer: &mut Observer<'_>,
) -> Result<PathBuf, CompressError> {
    let earlier = source.manifest()?;
    let described = earlier.iter().flat_map(|manifest| &manifest.layers).filter(|(_, entry)| !entry.int8);
    let mut layers: Vec<Float> = described
        .map(|(name, entry)| Float {
            name: name.clone(),
            block: None,
            orientation: entry.orientation,
            dtype: entry.dtype().unwrap_or(Dtype::F32),
        })
        .collect();
    layers.extend(linears(source).into_iter().map(|linear| Float {
        orientation: linear.orientation,
        dtype: source.tensor(&linear.weight).map_or(Dtype::F32, |weight| weight.dtype),
        block: linear.block,
        name: linear.name,
    }));
    if layers.is_empty() {
        return Err(PipelineError::NothingToQuantize { path: source.path().to_owned() }.into());
    }
    for (name, entry) in earlier.iter().flat_map(|manifest| &manifest.layers) {
        check_int8(name, entry.structure.parse().map_err(crate::plan::PlanError::from)?)?;
    }
    let seed = earlier.as_ref().map_or(0, |manifest| manifest.seed);
    let identity = Identity::new("quantize")
        .with("model", source.fingerprint())
        .with("description", source.metadata().get(checkpoint::MANIFEST_KEY).cloned().unwrap_or_default())
        .with("device", format!("{device:?}"));
    let units = (0..layers.len()).map(|index| format!("layer-{index:04}")).collect();
    let mut store = match Store::open(output, identity, units, source.files(), observer)? {
        Opened::Finished(done) => return Ok(done.path),
        Opened::Run(store) => store,
    };
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    units::layers(&mut store, &names, observer, |index| {
        let layer = &layers[index];
        let found = checkpoint::layer(source, &layer.name, device)?;
        let dense = found.to_dense();
        let mut small = quantized(&layer.name, found, dense, layer.orientation, layer.dtype)?;
        // Of a layer that was compressed the dense weight is not known.
        let compressed = earlier.as_ref().is_some_and(|manifest| manifest.layers.contains_key(&layer.name));
        small.entry.relative_error = small.entry.relative_error.filter(|_| !compressed);
        let entries = BTreeMap::from([(layer.name.clone(), small.entry)]);
        Ok((small.tensors, shard_metadata(entries, seed, &UnitReport::default())))
    })?;
    let shards = (0..layers.len()).map(|unit| store.shard(unit)).collect::<Result<Vec<_>, _>>()?;
    let mut manifest =
        earlier.unwrap_or_else(|| Manifest { source: Some(source.fingerprint()), ..Manifest::new(TOOL, seed) });
    for shard in &shards {
        manifest.layers.extend(shard.manifest()?.map(|manifest| manifest.layers).unwrap_or_default());
    }
    let removed: BTreeSet<&str> = names.iter().flat_map(|name| factors_of(source, name)).collect();
    let mut metadata = source.metadata().clone();
    manifest.insert_into(&mut metadata);
    let folder = store.assembly()?;
    assemble::write_model(&folder, source, &removed, &shards, &Integers::default(), &metadata)?;
    companions::copy(source, &folder)?;
    // Read back as others will.
    let written = Checkpoint::open(folder.join(assemble::MODEL))?;
    let manifest = written.manifest()?.unwrap_or(manifest);
    let results =
        layers.iter().map(|layer| result(&written, layer, &manifest, device)).collect::<Result<Vec<_>, _>>()?;
    let report =
        Report { files: assemble::files_in(&folder)?, ..report(source, &written, results, &store, &manifest)? };
    report.save(&folder)?;
    RunInfo::now(store.output().command.clone(), store.seconds(), format!("{device:?}")).save(&folder)?;
    drop((written, shards));
    Ok(store.complete()?)
}

/// What is reported of a layer, which is loaded for it.
fn result(
    written: &Checkpoint,
    layer: &Float,
    manifest: &Manifest,
    device: &Device,
) -> Result<LayerResult, CompressError> {
    let loaded = checkpoint::layer(written, &layer.name, device)?;
    let (cost, bias) = (loaded.cost(), loaded.bias().map_or(0, |_| loaded.d_output()));
    let own: Vec<_> = factors_of(written, &layer.name).filter_map(|name| written.tensor(name)).collect();
    let weights = loaded.d_input() * loaded.d_output();
    Ok(LayerResult {
        name: layer.name.clone(),
        block: layer.block,
        d_input: loaded.d_input(),
        d_output: loaded.d_output(),
        orientation: layer.orientation,
        structure: loaded.structure(),
        before: Size { params: weights, flops_per_token: 2 * weights, bytes: weights * layer.dtype.bitsize() / 8 },
        after: Size {
            params: own.iter().map(|tensor| tensor.elements()).sum(),
            flops_per_token: cost.flops_per_token - bias,
            bytes: own.iter().map(|tensor| tensor.byte_len()).sum(),
        },
        weight_error: manifest.layers.get(&layer.name).and_then(|entry| entry.relative_error),
        output_error: None,
    })
}

/// The report of the source, if it has one, with other layers and sizes; without files.
fn report(
    source: &Checkpoint,
    written: &Checkpoint,
    results: Vec<LayerResult>,
    store: &Store,
    manifest: &Manifest,
) -> Result<Report, PipelineError> {
    let folder = source.folder().filter(|folder| folder.join("report.json").is_file());
    let earlier = folder.map(Report::load).transpose()?;
    let linear = Change {
        before: results.iter().map(|layer| layer.before).sum(),
        after: results.iter().map(|layer| layer.after).sum(),
    };
    let after = Size { flops_per_token: linear.after.flops_per_token, ..assemble::size_of(written) };
    let before = Size { flops_per_token: linear.before.flops_per_token, ..assemble::size_of(source) };
    let mut report = earlier.unwrap_or_else(|| Report {
        format: crate::report::FORMAT,
        tool: TOOL.to_string(),
        executor: "quantize".into(),
        run: store.identity().id(),
        seed: manifest.seed,
        model: assemble::name_of(source),
        source: manifest.source.clone().unwrap_or_default(),
        settings: BTreeMap::new(),
        layers: Vec::new(),
        blocks: Vec::new(),
        distillation: None,
        linear,
        file: Change { before, after },
        changed: Vec::new(),
        files: Vec::new(),
    });
    report.settings.insert("int8".into(), "true".into());
    report.file.after = after;
    report.linear = linear;
    // In the order of the network, where it is known.
    let place = |name: &str| report.layers.iter().position(|layer| layer.name == name);
    let placed = |layer: LayerResult| match place(&layer.name) {
        Some(place) => (Some(place), LayerResult { block: report.layers[place].block, ..layer }),
        None => (None, layer),
    };
    let mut results: Vec<(Option<usize>, LayerResult)> = results.into_iter().map(placed).collect();
    results.sort_by_key(|(place, _)| *place);
    report.layers = results.into_iter().map(|(_, layer)| layer).collect();
    Ok(report)
}
