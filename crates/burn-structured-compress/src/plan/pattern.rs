//! Patterns of layers' names.

use super::PlanError;
use regex::{Regex, RegexBuilder};
use std::fmt;
use std::str::FromStr;

/// The most bytes of one compiled pattern, and of its cache: a plan has many, and none of them needs more.
const SIZE_LIMIT: usize = 1 << 18;
/// The longest pattern.
const LENGTH_LIMIT: usize = 4096;

/// A regular expression that matches anywhere in a layer's name.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// # Errors
    ///
    /// If it is no regular expression, or one that needs more than 256 KiB.
    pub fn new(text: &str) -> Result<Self, PlanError> {
        let invalid = |reason: String| PlanError::Pattern { pattern: shortened(text), reason };
        if text.len() > LENGTH_LIMIT {
            return Err(invalid(format!("it has {} bytes; use at most {LENGTH_LIMIT}", text.len())));
        }
        let pattern = RegexBuilder::new(text).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build();
        pattern.map(Self).map_err(|error| invalid(last_line(&error.to_string())))
    }

    /// The pattern of one name.
    ///
    /// # Errors
    ///
    /// If the name is longer than a pattern may be.
    pub fn exactly(name: &str) -> Result<Self, PlanError> {
        Self::new(&format!("^{}$", regex::escape(name)))
    }

    /// Whether the pattern is found in a name.
    pub fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The regular expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Pattern {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// What the regex crate says below its drawing of the pattern.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_matches_one_name() {
        let pattern = Pattern::exactly("h.1.mlp+").unwrap();
        assert!(pattern.is_match("h.1.mlp+"));
        assert!(!pattern.is_match("h.11mlp+") && !pattern.is_match("xh.1.mlp+") && !pattern.is_match("h.1.mlp+.x"));
    }

    #[test]
    fn new_limits_what_a_pattern_takes() {
        for text in [r"\w{200}{200}", "(((a{100}){100}){100})", &"a".repeat(5000)] {
            let error = Pattern::new(text).unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
        let error = Pattern::new("layer.(").unwrap_err().to_string();
        assert!(error.contains("`layer.(`") && error.contains("unclosed group"), "{error}");
        // What plans are written with.
        for text in [r"layer\.\d+\.(query|key)$", r"^(?:bert\.)?encoder", r"\w+\.\w+"] {
            Pattern::new(text).unwrap();
        }
    }
}
