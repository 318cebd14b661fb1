//! The file format of moments: safetensors, with the numbers of inputs in the metadata.

use super::Moment;
use crate::CompressError;
use burn_structured_checkpoint::files::replace;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const FORMAT: &str = "burn-structured-moments";
const VERSION: &str = "1";

pub(super) fn save(moments: &BTreeMap<String, Moment>, path: &Path) -> Result<(), CompressError> {
    let unwritable = |source: std::io::Error| CompressError::File { path: path.display().to_string(), source };
    let bytes: Vec<(&str, usize, Vec<u8>)> = moments
        .iter()
        .map(|(name, moment)| {
            let bytes = moment.sum().iter().flat_map(|product| product.to_le_bytes()).collect();
            (name.as_str(), moment.features(), bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, features, bytes)| Ok((*name, TensorView::new(Dtype::F64, vec![*features; 2], bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let tokens: BTreeMap<&str, u64> = moments.iter().map(|(name, moment)| (name.as_str(), moment.tokens())).collect();
    let written = serde_json::to_string(&tokens).map_err(std::io::Error::other).and_then(|tokens| {
        let metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("version".to_string(), VERSION.to_string()),
            ("tokens".to_string(), tokens),
        ]);
        let file = safetensors::serialize(views.map_err(std::io::Error::other)?, Some(metadata));
        replace(path, &file.map_err(std::io::Error::other)?)
    });
    written.map_err(unwritable)
}

pub(super) fn load(path: &Path) -> Result<BTreeMap<String, Moment>, CompressError> {
    let unreadable = |source: std::io::Error| CompressError::File { path: path.display().to_string(), source };
    let invalid = |reason: String| CompressError::Moments { path: path.display().to_string(), reason };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| invalid(error.to_string()))?;
    let settings = metadata.metadata().clone().unwrap_or_default();
    if settings.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(invalid("it holds no moments; pass a file that a calibration wrote".into()));
    }
    match settings.get("version").map(String::as_str) {
        Some(VERSION) => {}
        other => return Err(invalid(format!("its version is {}; {VERSION} is known", other.unwrap_or("missing")))),
    }
    let tokens: BTreeMap<String, u64> = settings
        .get("tokens")
        .and_then(|tokens| serde_json::from_str(tokens).ok())
        .ok_or_else(|| invalid("the numbers of inputs are missing".into()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    if let Some(name) = file.names().into_iter().find(|name| !tokens.contains_key(*name)) {
        return Err(invalid(format!("the number of inputs of {name} is missing")));
    }
    let moment = |(name, tokens): (String, u64)| {
        let tensor = file.tensor(&name).map_err(|error| invalid(format!("{name}: {error}")))?;
        let &[features, columns] = tensor.shape() else {
            return Err(invalid(format!("{name} is no matrix")));
        };
        if features != columns || tensor.dtype() != Dtype::F64 {
            return Err(invalid(format!(
                "{name} is {:?} {:?}, not a square matrix in f64",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let (values, _) = tensor.data().as_chunks::<8>();
        let sum: Vec<f64> = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        if sum.iter().any(|product| !product.is_finite()) {
            return Err(invalid(format!("{name} has entries that are NaN or infinite")));
        }
        if sum.iter().step_by(features + 1).any(|square| *square < 0.0) {
            return Err(invalid(format!("{name} has a negative sum of squares")));
        }
        Ok((name, Moment::from_sum(features, tokens, sum)))
    };
    tokens.into_iter().map(moment).collect()
}
