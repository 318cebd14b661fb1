//! Shards: the tensors of a unit as they will be in the output, and what is reported about them.

use super::PipelineError;
use crate::CompressError;
use crate::report::{BlockResult, DistillResult};
use burn::tensor::{self, DType};
use burn_structured_checkpoint::{Checkpoint, Dtype, LayerEntry, Manifest, TensorData};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The program that makes outputs.
pub(crate) const TOOL: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
/// The metadata entry of a shard with the [`UnitReport`].
const REPORT: &str = "report";

/// What a unit reports. It is part of the shard, so that a resumed run reads what an undisturbed one does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UnitReport {
    /// The relative errors of the outputs of layers, by name.
    pub output_errors: BTreeMap<String, f64>,
    pub block: Option<BlockResult>,
    pub distillation: Option<DistillResult>,
}

/// The metadata of a shard.
pub(super) fn shard_metadata(
    layers: BTreeMap<String, LayerEntry>,
    seed: u64,
    report: &UnitReport,
) -> BTreeMap<String, String> {
    // Maps of text and numbers always serialise.
    let mut metadata = BTreeMap::from([(REPORT.to_string(), serde_json::to_string(report).unwrap_or_default())]);
    Manifest { layers, ..Manifest::new(TOOL, seed) }.insert_into(&mut metadata);
    metadata
}

/// What a shard reports.
///
/// # Errors
///
/// If it reports nothing.
pub(super) fn unit_report(shard: &Checkpoint) -> Result<UnitReport, PipelineError> {
    let damaged = |reason: String| PipelineError::Damaged { path: shard.path().to_owned(), reason };
    let text = shard.metadata().get(REPORT).ok_or_else(|| damaged("it has no report".into()))?;
    serde_json::from_str(text).map_err(|error| damaged(error.to_string()))
}

/// A tensor of floats in another float type; tensors of other types stay as they are.
pub(super) fn cast(found: TensorData<'static>, dtype: Dtype) -> TensorData<'static> {
    let (Some(from), Some(to)) = (float_type(found.dtype), float_type(dtype)) else { return found };
    if from == to {
        return found;
    }
    let data = tensor::TensorData::from_bytes_vec(found.bytes.into_owned(), found.shape.clone(), from);
    let bytes = data.convert_dtype(to).as_bytes().to_vec();
    TensorData { dtype, bytes: Cow::Owned(bytes), ..found }
}

fn float_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => return None,
    })
}

/// Whether a tensor has the values, shape and name of one of the checkpoint, whatever the types.
pub(super) fn is_same(found: &TensorData<'_>, checkpoint: &Checkpoint) -> bool {
    let Some(known) = checkpoint.tensor(&found.name) else { return false };
    let Ok(known_bytes) = checkpoint.bytes(&found.name) else { return false };
    if known.shape != found.shape {
        return false;
    }
    if known.dtype == found.dtype {
        return known_bytes == &*found.bytes;
    }
    // The model's numbers are those of the file in another type.
    let Some(to) = float_type(found.dtype) else { return false };
    let Ok(values) = checkpoint.values(&found.name) else { return false };
    let data = tensor::TensorData::new(values, found.shape.clone()).convert_dtype(to);
    data.as_bytes() == &*found.bytes
}

/// The relative error `‖W − Ŵ‖ / ‖W‖` of one matrix for another, both row by row.
pub(super) fn weight_error(dense: &tensor::TensorData, found: &tensor::TensorData) -> Result<f64, CompressError> {
    let (mut error, mut norm) = (0.0f64, 0.0f64);
    for (dense, found) in dense.iter::<f64>().zip(found.iter::<f64>()) {
        error += (dense - found).powi(2);
        norm += dense.powi(2);
    }
    let error = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
    if error.is_finite() { Ok(error) } else { Err(CompressError::OutputNotFinite) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor_of(values: &[f32]) -> TensorData<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorData { name: "a".into(), dtype: Dtype::F32, shape: vec![values.len()], bytes: Cow::Owned(bytes) }
    }

    #[test]
    fn cast_and_is_same_are_each_others_inverse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            // Exact in all types.
            let original = tensor_of(&[1.5, -0.25, 0.0, 96.0]);
            let stored = cast(original.clone(), dtype);
            assert_eq!(stored.bytes.len(), 4 * dtype.bitsize() / 8);
            burn_structured_checkpoint::write(&path, std::slice::from_ref(&stored), &BTreeMap::new()).unwrap();
            let checkpoint = Checkpoint::read(&path).unwrap();
            assert!(is_same(&original, &checkpoint) && is_same(&stored, &checkpoint), "{dtype}");
            assert!(!is_same(&tensor_of(&[1.5, -0.25, 0.0, 97.0]), &checkpoint), "{dtype}");
            assert_eq!(cast(stored, Dtype::F32).bytes, original.bytes);
        }
    }
}
