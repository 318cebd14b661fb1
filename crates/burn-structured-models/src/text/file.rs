//! The files of a tokenizer: `text.json`, or Hugging Face's `tokenizer.json`.

use super::characters::Characters;
#[cfg(feature = "tokenizers")]
use super::huggingface::HuggingFace;
use super::tokenizer::Kind;
use super::{TextError, Tokenizer};
use burn_structured_checkpoint::files;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

const TEXT: &str = "text.json";
const HUGGING_FACE: &str = "tokenizer.json";

/// The content of `text.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Saved {
    Bytes,
    Characters { characters: String },
    Gpt2,
}

pub(super) fn read(path: &Path) -> Result<Tokenizer, TextError> {
    let json = fs::read(path).map_err(|source| TextError::Read { path: path.to_owned(), source })?;
    // Either file may have any name.
    let error = |reason: String| TextError::Tokenizer { path: path.to_owned(), reason };
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(|source| error(source.to_string()))?;
    if value.get("kind").is_none() {
        return hugging_face(json, path);
    }
    let kind = match serde_json::from_value(value).map_err(|source| error(source.to_string()))? {
        Saved::Bytes => Kind::Bytes,
        Saved::Characters { characters } => {
            let listed = Characters::listed(&characters);
            Kind::Characters(Arc::new(listed.map_err(|twice| error(format!("it lists {twice:?} twice")))?))
        }
        Saved::Gpt2 => return gpt2(path),
    };
    Ok(Tokenizer { kind })
}

pub(super) fn read_folder(folder: &Path) -> Result<Tokenizer, TextError> {
    for name in [TEXT, HUGGING_FACE] {
        match read(&folder.join(name)) {
            Err(TextError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(TextError::NoTokenizer { folder: folder.to_owned() })
}

#[cfg(feature = "tokenizers")]
fn gpt2(_path: &Path) -> Result<Tokenizer, TextError> {
    Ok(Tokenizer::gpt2())
}

#[cfg(not(feature = "tokenizers"))]
fn gpt2(path: &Path) -> Result<Tokenizer, TextError> {
    Err(TextError::Feature { name: path.display().to_string() })
}

#[cfg(feature = "tokenizers")]
fn hugging_face(json: Vec<u8>, path: &Path) -> Result<Tokenizer, TextError> {
    Ok(Tokenizer { kind: Kind::HuggingFace(Arc::new(HuggingFace::new(json, path)?)) })
}

#[cfg(not(feature = "tokenizers"))]
fn hugging_face(_json: Vec<u8>, path: &Path) -> Result<Tokenizer, TextError> {
    Err(TextError::Feature { name: path.display().to_string() })
}

pub(super) fn write(tokenizer: &Tokenizer, folder: &Path) -> Result<(), TextError> {
    let saved = match &tokenizer.kind {
        Kind::Bytes => Saved::Bytes,
        Kind::Characters(characters) => Saved::Characters { characters: characters.text() },
        #[cfg(feature = "tokenizers")]
        Kind::Gpt2 => Saved::Gpt2,
        #[cfg(feature = "tokenizers")]
        Kind::HuggingFace(tokenizer) => {
            replace(folder, HUGGING_FACE, tokenizer.json())?;
            let hiding = folder.join(TEXT);
            return match fs::remove_file(&hiding) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(TextError::Write { path: hiding, reason: source.to_string() })
                }
                _ => Ok(()),
            };
        }
    };
    let json = serde_json::to_string(&saved).expect("strings are JSON");
    replace(folder, TEXT, (json + "\n").as_bytes())
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), TextError> {
    let path = folder.join(name);
    let error = |reason: String| TextError::Write { path: path.clone(), reason };
    fs::create_dir_all(folder).map_err(|source| error(source.to_string()))?;
    files::replace(&path, bytes).map_err(|source| error(source.to_string()))
}
