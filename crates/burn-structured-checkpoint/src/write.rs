//! Safetensors files, written as a whole.

use crate::CheckpointError;
use crate::files::Replacement;
use crate::header::{LENGTH_BYTES, MAX_HEADER, METADATA, byte_size, is_name};
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, little-endian and contiguous.
    pub bytes: Cow<'a, [u8]>,
}

/// Writes a safetensors file that is complete or absent: a new file beside `path` is filled, synchronized with the disk and renamed.
///
/// The same tensors and metadata give the same bytes, whatever their order. Tensors are sorted by the size of their numbers, the
/// largest first, and by name, as the reference implementation does: numbers are then aligned in the file.
///
/// # Errors
///
/// If the file cannot be written, or if a tensor has a name that is taken or not valid, or other bytes than its shape says. An
/// earlier file at `path` is then unchanged.
pub fn write(
    path: &Path,
    tensors: &[TensorData<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let mut sorted: Vec<&TensorData<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(&sorted, metadata)?;
    let failed = |error| CheckpointError::write(path, error);
    let mut file = Replacement::create(path).map_err(failed)?;
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for tensor in sorted {
        file.write_all(&tensor.bytes).map_err(failed)?;
    }
    file.commit().map_err(failed)
}

/// The header, its length a multiple of eight, for tensors in the order in which they are written.
fn header(tensors: &[&TensorData<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, CheckpointError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut members = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        let entries: Vec<String> =
            metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
        members.push(format!("{}:{{{}}}", quoted(METADATA), entries.join(",")));
    }
    let (mut names, mut end) = (BTreeSet::new(), 0);
    for TensorData { name, dtype, shape, bytes } in tensors {
        let error = |reason: String| CheckpointError::TensorData { name: name.clone(), reason };
        if !is_name(name) {
            return Err(error("names have no control characters and are not empty".into()));
        }
        if !names.insert(name) {
            return Err(error("there are two tensors of that name".into()));
        }
        if byte_size(*dtype, shape) != Some(bytes.len()) {
            return Err(error(format!("it has {} bytes, which is not the size of {dtype} {shape:?}", bytes.len())));
        }
        let start = end;
        end += bytes.len();
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        members.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            quoted(name),
            shape.join(",")
        ));
    }
    let mut header = format!("{{{}}}", members.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
    if header.len() as u64 > MAX_HEADER {
        let name = tensors.first().map_or_else(|| METADATA.to_string(), |tensor| tensor.name.clone());
        let reason =
            format!("the header has {} bytes, above the limit of {MAX_HEADER}; use fewer tensors", header.len());
        return Err(CheckpointError::TensorData { name, reason });
    }
    Ok(header)
}
