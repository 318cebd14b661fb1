//! The units of a run, one after the other.

use super::store::Store;
use super::{Event, Observer};
use crate::CompressError;
use burn_structured_checkpoint::TensorData;
use std::collections::BTreeMap;
use std::time::Instant;

/// A finished unit: its tensors, and the metadata of their shard.
pub(super) type Shard = (Vec<TensorData<'static>>, BTreeMap<String, String>);

/// Does `work` for every layer that is not finished, by its index in `names`, and keeps what it gives; then announces that the output is put
/// together.
///
/// # Errors
///
/// If `work` fails, with the name of the layer, a shard cannot be written, or `observer` breaks.
pub(super) fn layers(
    store: &mut Store,
    names: &[&str],
    observer: &mut Observer<'_>,
    mut work: impl FnMut(usize) -> Result<Shard, CompressError>,
) -> Result<(), CompressError> {
    let units = names.len();
    for (index, name) in names.iter().copied().enumerate().skip(store.finished()) {
        let began = Instant::now();
        if observer(&Event::Unit { index, units, name }).is_break() {
            return Err(store.interrupted().into());
        }
        let (tensors, metadata) = work(index).map_err(|error| error.in_layer(name))?;
        let seconds = began.elapsed().as_secs_f64();
        store.finish(&tensors, &metadata, seconds)?;
        if observer(&Event::UnitFinished { index, units, name, seconds }).is_break() {
            return Err(store.interrupted().into());
        }
    }
    if observer(&Event::Assemble).is_break() {
        return Err(store.interrupted().into());
    }
    Ok(())
}
