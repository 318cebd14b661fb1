//! Hugging Face's `config.json`.

use super::DecoderError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
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

/// The field that says which tokens end a text.
#[derive(Deserialize)]
struct EndTokens {
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// The tokens that end a text by the files of a model's folder: the `eos_token_id` of `generation_config.json`, or else that of
/// `config.json`. Models for conversations have several, of which a tokenizer's usual one is not always among them.
///
/// # Errors
///
/// If a file cannot be read, or the field is neither a token nor a list of them.
pub fn end_tokens(folder: impl AsRef<Path>) -> Result<Vec<u32>, DecoderError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.as_ref().join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(DecoderError::read(&path, source)),
        };
        let found: EndTokens = serde_json::from_str(&text).map_err(|source| DecoderError::Json {
            path: path.clone(),
            model: "the tokens that end a text",
            source,
        })?;
        match found.eos_token_id {
            Some(OneOrMany::One(token)) => return Ok(vec![token]),
            Some(OneOrMany::Many(tokens)) => return Ok(tokens),
            None => {}
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_tokens_are_those_of_generation_or_else_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(end_tokens(folder.path()).unwrap().is_empty());
        write("config.json", r#"{"model_type": "llama", "eos_token_id": 2}"#);
        assert_eq!(end_tokens(folder.path()).unwrap(), [2]);
        write("generation_config.json", r#"{"temperature": 0.6}"#);
        assert_eq!(end_tokens(folder.path()).unwrap(), [2]);
        write("generation_config.json", r#"{"eos_token_id": [128001, 128009]}"#);
        assert_eq!(end_tokens(folder.path()).unwrap(), [128001, 128009]);
        write("generation_config.json", r#"{"eos_token_id": "</s>"}"#);
        let message = end_tokens(folder.path()).unwrap_err().to_string();
        assert!(message.contains("generation_config.json does not describe the tokens that end a text"), "{message}");
    }
}
