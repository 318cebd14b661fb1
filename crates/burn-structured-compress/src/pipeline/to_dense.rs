//! Back to a dense checkpoint.

use super::assemble::{Integers, factors_of};
use super::store::{Identity, Opened, Store};
use super::tensors::{UnitReport, shard_metadata};
use super::{Observer, Output, PipelineError, assemble, companions, units};
use crate::CompressError;
use burn::tensor::Device;
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, LayerEntry, MANIFEST_KEY, TensorData};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Writes a compressed checkpoint as a dense one, which any other tool loads: compressed layers become the weights that they stand
/// for, under the original names, in the original orientations and types; all other tensors are taken over byte for byte, and so are
/// the other files of the folder. One layer is in memory at a time.
///
/// Interrupted, it continues as every run, see the [module](crate::pipeline).
///
/// # Errors
///
/// If the checkpoint is not compressed, a layer cannot be read, the output is there already or cannot be written, or `observer`
/// breaks.
pub fn to_dense(
    source: &Checkpoint,
    output: &Output,
    device: &Device,
    observer: &mut Observer<'_>,
) -> Result<PathBuf, CompressError> {
    let not_compressed = || PipelineError::NotCompressed { path: source.path().to_owned() };
    let manifest = source.manifest()?.ok_or_else(not_compressed)?;
    let layers: Vec<(&String, &LayerEntry)> = manifest.layers.iter().collect();
    let described = source.metadata().get(MANIFEST_KEY).cloned().unwrap_or_default();
    let identity = Identity::new("to-dense")
        .with("model", source.fingerprint())
        .with("description", described)
        .with("device", format!("{device:?}"));
    let units = (0..layers.len()).map(|index| format!("layer-{index:04}")).collect();
    let mut store = match Store::open(output, identity, units, source.files(), observer)? {
        Opened::Finished(done) => return Ok(done.path),
        Opened::Run(store) => store,
    };
    let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    units::layers(&mut store, &names, observer, |index| {
        let (name, entry) = layers[index];
        let metadata = shard_metadata(BTreeMap::new(), manifest.seed, &UnitReport::default());
        Ok((vec![dense_weight(source, name, entry, device)?], metadata))
    })?;
    let shards = (0..layers.len()).map(|unit| store.shard(unit)).collect::<Result<Vec<_>, _>>()?;
    let removed: BTreeSet<&str> = names.iter().flat_map(|name| factors_of(source, name)).collect();
    let mut metadata = source.metadata().clone();
    metadata.remove(MANIFEST_KEY);
    let folder = store.assembly()?;
    assemble::write_model(&folder, source, &removed, &shards, &Integers::default(), &metadata)?;
    companions::copy(source, &folder)?;
    drop(shards);
    Ok(store.complete()?)
}

fn dense_weight(
    source: &Checkpoint,
    name: &str,
    entry: &LayerEntry,
    device: &Device,
) -> Result<TensorData<'static>, CompressError> {
    let layer = checkpoint::layer(source, name, device)?;
    let dtype = entry.dtype().unwrap_or(Dtype::F32);
    Ok(checkpoint::dense_tensor(format!("{name}.weight"), layer.to_dense(), entry.orientation, dtype)?)
}
