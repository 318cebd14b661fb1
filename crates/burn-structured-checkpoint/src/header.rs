//! The header of a safetensors file: eight bytes of length, and JSON of that length.
//!
//! Read here and not by the `safetensors` crate because that one keeps the last of two tensors of one name and names no tensor in its
//! errors.

use crate::CheckpointError;
use crate::error::printable;
use crate::unique::{Unique, insert};
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// The largest header that is read: that of the reference implementation.
pub(crate) const MAX_HEADER: u64 = 100_000_000;
/// The bytes of the header's length.
pub(crate) const LENGTH_BYTES: usize = size_of::<u64>();
/// How a file begins that only points to one in Git LFS, whatever its version.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// The entry of the header that is no tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// A tensor as the header describes it, its place checked.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

/// A header whose tensors cover the file without gaps or overlaps.
#[derive(Debug)]
pub(crate) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: Vec<Entry>,
}

impl Header {
    /// The header of a file with these `bytes`; `path` is for errors.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let truncated =
            |needed| CheckpointError::Truncated { path: path.to_owned(), length: bytes.len() as u64, needed };
        let (length, rest) = bytes.split_first_chunk().ok_or_else(|| truncated(LENGTH_BYTES as u64))?;
        let length = u64::from_le_bytes(*length);
        if bytes.starts_with(LFS_POINTER) {
            return Err(CheckpointError::LfsPointer { path: path.to_owned() });
        }
        if length > MAX_HEADER {
            return Err(CheckpointError::HeaderTooLarge { path: path.to_owned(), length, limit: MAX_HEADER });
        }
        let (json, data) =
            rest.split_at_checked(length as usize).ok_or_else(|| truncated(length + LENGTH_BYTES as u64))?;
        let RawHeader { metadata, tensors } = serde_json::from_slice(json)
            .map_err(|error| CheckpointError::Header { path: path.to_owned(), reason: printable(error) })?;
        let tensors = place(tensors, data.len(), path)?;
        let begin = bytes.len() - data.len();
        let tensors = tensors.into_iter().map(|mut tensor| {
            tensor.range = begin + tensor.range.start..begin + tensor.range.end;
            tensor
        });
        Ok(Self { metadata, tensors: tensors.collect() })
    }
}

/// The tensors in the order of their bytes, which are the `length` bytes behind the header, each once.
fn place(tensors: BTreeMap<String, RawEntry>, length: usize, path: &Path) -> Result<Vec<Entry>, CheckpointError> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, RawEntry { dtype, shape, data_offsets: (start, end) }) in tensors {
        if !is_name(&name) {
            return Err(CheckpointError::Name { path: path.to_owned(), name });
        }
        let problem = if end < start {
            "ends before it begins"
        } else if end > length {
            "is beyond the end of the file"
        } else if byte_size(dtype, &shape) != Some(end - start) {
            let (path, found) = (path.to_owned(), end - start);
            return Err(CheckpointError::TensorSize { path, name, dtype, shape, found });
        } else {
            entries.push(Entry { name, dtype, shape, range: start..end });
            continue;
        };
        return Err(CheckpointError::Offsets { path: path.to_owned(), name, start, end, problem });
    }
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let mut covered = 0;
    for Entry { name, range, .. } in &entries {
        let problem = match range.start {
            start if start < covered => "overlaps another tensor",
            start if start > covered => "leaves a gap in front of it",
            _ => {
                covered = range.end;
                continue;
            }
        };
        let (path, name) = (path.to_owned(), name.clone());
        return Err(CheckpointError::Offsets { path, name, start: range.start, end: range.end, problem });
    }
    match length - covered {
        0 => Ok(entries),
        count => Err(CheckpointError::TrailingBytes { path: path.to_owned(), count }),
    }
}

/// The bytes of a tensor; `None` if they are more than memory can have, or no whole number.
pub(crate) fn byte_size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Whether a tensor may have this name. Control characters would change what a terminal shows.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name != METADATA && !name.chars().any(char::is_control)
}

/// A tensor as it is written.
#[derive(Deserialize)]
struct RawEntry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header as it is written.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawEntry>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    if name != METADATA {
                        let entry =
                            members.next_value().map_err(|error| Error::custom(format!("{name:?}: {error}")))?;
                        insert(&mut tensors, name, entry)?;
                        continue;
                    }
                    let found: Option<Unique<String>> = members.next_value()?;
                    if metadata.replace(found).is_some() {
                        return Err(Error::custom(format!("{name:?} occurs twice")));
                    }
                }
                let metadata = metadata.flatten().map_or_else(BTreeMap::new, |members| members.0);
                Ok(RawHeader { metadata, tensors })
            }
        }

        deserializer.deserialize_map(Members)
    }
}
