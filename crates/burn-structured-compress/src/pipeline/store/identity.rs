//! What decides a run's result: a run continues only where all of it is the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Everything that decides a run's result, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Identity(BTreeMap<String, String>);

/// The most differences that are named.
const NAMED: usize = 3;
/// The most characters of a value that are named.
const SHOWN: usize = 60;

impl Identity {
    /// A run of this version of the crate; `executor` is its kind.
    pub fn new(executor: &str) -> Self {
        let tool = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        Self::default().with("tool", tool).with("executor", executor)
    }

    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds every number and text of a serialisable value, named `name.field.field`.
    pub fn with_settings(mut self, name: &str, value: &impl Serialize) -> Self {
        // Settings are plain data; what JSON has no form for is compared as null.
        self.flatten(name, serde_json::to_value(value).unwrap_or_default());
        self
    }

    fn flatten(&mut self, name: &str, value: serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) if !fields.is_empty() => {
                for (field, value) in fields {
                    self.flatten(&format!("{name}.{field}"), value);
                }
            }
            serde_json::Value::String(text) => {
                self.0.insert(name.to_string(), text);
            }
            other => {
                self.0.insert(name.to_string(), other.to_string());
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names that begin with `prefix`, and their values.
    pub fn within<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(move |(name, _)| name.starts_with(prefix))
    }

    /// What tells this run from others.
    pub fn id(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// How an earlier run differs, in words; `None` if it does not.
    pub fn difference(&self, earlier: &Self) -> Option<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(earlier.0.keys()).collect();
        let differs = |name: &&&String| self.0.get(**name) != earlier.0.get(**name);
        let different: Vec<&&String> = names.iter().filter(differs).collect();
        let describe = |name: &&&String| {
            let value =
                |identity: &Self| identity.0.get(**name).map_or_else(|| "absent".to_string(), |text| shown(text));
            format!("another {} ({} there, {} now)", name, value(earlier), value(self))
        };
        let mut parts: Vec<String> = different.iter().take(NAMED).map(describe).collect();
        match different.len().saturating_sub(NAMED) {
            0 => {}
            more => parts.push(format!("{more} more differences")),
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_names_what_changed() {
        let run = Identity::new("layerwise")
            .with("model", "12ab")
            .with_settings("settings", &serde_json::json!({"a": {"b": 1}, "c": "x"}));
        assert_eq!(run.difference(&run), None);
        let other = run.clone().with("model", "34cd").with_settings("settings", &serde_json::json!({"a": {"b": 2}}));
        let difference = other.difference(&run).unwrap();
        assert_eq!(difference, "another model (12ab there, 34cd now), another settings.a.b (1 there, 2 now)");
        assert_ne!(run.id(), other.id());
        let more = (0..5).fold(run.clone(), |run, layer| run.with(format!("layer {layer}"), "low-rank:r=1"));
        assert!(more.difference(&run).unwrap().ends_with("absent there, low-rank:r=1 now), 2 more differences"));
    }
}
