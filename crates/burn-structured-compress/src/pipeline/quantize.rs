//! Layers as int8, of a whole checkpoint or as the last step of a compression.

use super::assemble::{Integers, factors_of};
use super::store::{Identity, Opened, Store};
use super::tensors::{UnitReport, shard_metadata, weight_error};
use super::{Event, Observer, Output, PipelineError, assemble, companions};
use crate::CompressError;
use burn::tensor::{Device, Tensor};
use burn_structured_checkpoint::{
    self as checkpoint, Checkpoint, Dtype, LayerEntry, Manifest, Orientation, TensorData, linears,
};
use burn_structured_nn::{Structure, StructureError, StructuredLinear};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

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

/// A layer of a checkpoint that is to be quantized.
struct Float {
    name: String,
    orientation: Orientation,
    dtype: Dtype,
}

/// Writes a checkpoint, compressed or not, with int8 weights in its linear layers: factors, or dense weights, become integers with a scale
/// for each output. Biases and all other tensors are taken over byte for byte, and so are the other files of the folder. One layer is
/// in memory at a time.
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
            orientation: entry.orientation,
            dtype: entry.dtype().unwrap_or(Dtype::F32),
        })
        .collect();
    layers.extend(linears(source).into_iter().map(|linear| Float {
        orientation: linear.orientation,
        dtype: source.tensor(&linear.weight).map_or(Dtype::F32, |weight| weight.dtype),
        name: linear.name,
    }));
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    if layers.is_empty() {
        return Err(PipelineError::NothingToQuantize { path: source.path().to_owned() }.into());
    }
    let described = earlier.iter().flat_map(|manifest| &manifest.layers);
    for (name, entry) in described {
        let structure = entry.structure.parse::<Structure>().map_err(crate::plan::PlanError::from)?;
        if !structure.has_int8() {
            return Err(CompressError::from(StructureError::NoInt8 { structure: structure.name() }).in_layer(name));
        }
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
    let units = layers.len();
    for (index, layer) in layers.iter().enumerate().skip(store.finished()) {
        let (began, name) = (Instant::now(), layer.name.as_str());
        if observer(&Event::Unit { index, units, name }).is_break() {
            return Err(store.interrupted().into());
        }
        let quantize = || -> Result<Quantized, CompressError> {
            let found = checkpoint::layer(source, name, device)?;
            let dense = found.to_dense();
            let mut small = quantized(name, found, dense, layer.orientation, layer.dtype)?;
            // Of a layer that was compressed the dense weight is not known.
            let compressed = earlier.as_ref().is_some_and(|manifest| manifest.layers.contains_key(name));
            small.entry.relative_error = small.entry.relative_error.filter(|_| !compressed);
            Ok(small)
        };
        let small = quantize().map_err(|error| error.in_layer(name))?;
        let entries = BTreeMap::from([(layer.name.clone(), small.entry)]);
        let metadata = shard_metadata(entries, seed, &UnitReport::default());
        let seconds = began.elapsed().as_secs_f64();
        store.finish(&small.tensors, &metadata, seconds)?;
        if observer(&Event::UnitFinished { index, units, name, seconds }).is_break() {
            return Err(store.interrupted().into());
        }
    }
    if observer(&Event::Assemble).is_break() {
        return Err(store.interrupted().into());
    }
    let shards = (0..units).map(|unit| store.shard(unit)).collect::<Result<Vec<_>, _>>()?;
    let mut manifest = earlier.unwrap_or_else(|| Manifest {
        source: Some(source.fingerprint()),
        ..Manifest::new(super::tensors::TOOL, seed)
    });
    for shard in &shards {
        manifest.layers.extend(shard.manifest()?.map(|manifest| manifest.layers).unwrap_or_default());
    }
    let removed: BTreeSet<&str> = layers.iter().flat_map(|layer| factors_of(source, &layer.name)).collect();
    let mut metadata = source.metadata().clone();
    manifest.insert_into(&mut metadata);
    let folder = store.assembly()?;
    assemble::write_model(&folder, source, &removed, &shards, &Integers::default(), &metadata)?;
    companions::copy(source, &folder)?;
    // Read back as others will.
    let written = Checkpoint::open(folder.join(assemble::MODEL))?;
    for layer in &layers {
        checkpoint::layer(&written, &layer.name, device)?;
    }
    drop((written, shards));
    Ok(store.complete()?)
}
