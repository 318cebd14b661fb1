//! Hugging Face's `config.json`.

use super::DecoderError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What kind of model a `config.json` describes; other kinds have other fields.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

/// The fields of a `config.json` of a model of type `model_type`, which messages call `model`.
///
/// # Errors
///
/// If the file cannot be read, describes another type of model, or lacks a field.
pub(crate) fn read_config<T: DeserializeOwned>(
    path: &Path,
    model_type: &'static str,
    model: &'static str,
) -> Result<T, DecoderError> {
    let error = |source| DecoderError::Json { path: path.to_owned(), model, source };
    let text = std::fs::read_to_string(path).map_err(|source| DecoderError::read(path, source))?;
    let kind: Kind = serde_json::from_str(&text).map_err(error)?;
    supported(path, "model_type", kind.model_type, model_type)?;
    serde_json::from_str(&text).map_err(error)
}

/// An error unless the field is absent or has the one value that is implemented.
pub(crate) fn supported(
    path: &Path,
    field: &'static str,
    value: Option<impl ToString>,
    supported: &'static str,
) -> Result<(), DecoderError> {
    match value.map(|value| value.to_string()).filter(|value| value != supported) {
        Some(value) => Err(DecoderError::Unsupported { path: path.to_owned(), field, value, supported }),
        None => Ok(()),
    }
}
