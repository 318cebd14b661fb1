//! Plans as TOML.

use super::{Action, FORMAT, Pattern, Plan, PlanError, Rule};
use burn_structured_checkpoint::files;
use burn_structured_nn::Structure;
use serde::Deserialize;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// The most bytes of a plan: thousands of layers by name.
const MAX_BYTES: usize = 1 << 20;
/// The most rules.
const MAX_RULES: usize = 1 << 12;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[expect(dead_code, reason = "read before")]
    format: u64,
    #[serde(default, rename = "rule")]
    rules: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    pattern: Spanned<String>,
    structure: Option<Spanned<String>>,
    keep: Option<bool>,
}

impl Plan {
    /// The plan in a TOML text.
    ///
    /// # Errors
    ///
    /// With the rule and its line, if the text is no plan of a known format.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        if text.len() > MAX_BYTES {
            return Err(PlanError::TooLarge { count: text.len(), unit: "bytes", limit: MAX_BYTES });
        }
        let lines = Lines(text);
        let syntax = |error: toml::de::Error| PlanError::Syntax {
            place: error.span().map_or_else(|| "the plan".to_string(), |span| lines.place(span)),
            reason: error.message().to_string(),
        };
        // A later format may have other fields.
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        match table.get("format") {
            Some(toml::Value::Integer(format)) if *format != FORMAT as i64 => {
                return Err(PlanError::Format { format: *format, newest: FORMAT });
            }
            Some(toml::Value::Integer(_)) => {}
            _ => {
                let reason = format!("the plan's format is missing; begin with `format = {FORMAT}`");
                return Err(PlanError::Syntax { place: "line 1".into(), reason });
            }
        }
        let Document { rules, .. } = toml::from_str(text).map_err(syntax)?;
        if rules.len() > MAX_RULES {
            return Err(PlanError::TooLarge { count: rules.len(), unit: "rules", limit: MAX_RULES });
        }
        let rules = rules.into_iter().enumerate().map(|(index, entry)| {
            let first = lines.number(entry.span().start);
            let in_rule = |span: Range<usize>, source: PlanError| PlanError::Rule {
                place: format!("rule {}, line {}", index + 1, lines.number(span.start)),
                source: Box::new(source),
            };
            let whole = entry.span();
            let Entry { pattern, structure, keep } = entry.into_inner();
            let span = pattern.span();
            let pattern = Pattern::new(pattern.get_ref()).map_err(|error| in_rule(span, error))?;
            let rule = match (structure, keep) {
                (None, Some(true)) => Rule::keep(pattern),
                (Some(structure), None | Some(false)) => {
                    let parsed: Result<Structure, _> = structure.get_ref().parse();
                    Rule::new(pattern, parsed.map_err(|error| in_rule(structure.span(), error.into()))?)
                }
                _ => return Err(in_rule(whole, PlanError::Action)),
            };
            Ok(Rule { line: Some(first), ..rule })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The plan as TOML, which [`from_toml`](Self::from_toml) reads.
    pub fn to_toml(&self) -> String {
        let mut text = format!("format = {FORMAT}\n");
        for rule in &self.rules {
            let pattern = quoted(rule.pattern.as_str());
            let action = match rule.action {
                Action::Keep => "keep = true".to_string(),
                Action::Replace(structure) => format!("structure = {}", quoted(&structure.to_string())),
            };
            // Writing to a string does not fail.
            let _ = write!(text, "\n[[rule]]\npattern = {pattern}\n{action}\n");
        }
        text
    }

    /// Reads a plan from a TOML file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or as [`from_toml`](Self::from_toml).
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        let in_file = |source: PlanError| PlanError::InFile { path: path.to_owned(), source: Box::new(source) };
        let text = read(path).map_err(|source| PlanError::Io { path: path.to_owned(), source })?;
        if text.len() > MAX_BYTES {
            return Err(in_file(PlanError::TooLarge { count: text.len(), unit: "bytes", limit: MAX_BYTES }));
        }
        let text = String::from_utf8(text).map_err(|error| {
            let place = format!("byte {}", error.utf8_error().valid_up_to() + 1);
            in_file(PlanError::Syntax { place, reason: "the plan is no UTF-8 text".into() })
        })?;
        Self::from_toml(&text).map_err(in_file)
    }

    /// Writes the plan as a TOML file; an earlier file is replaced when the new one is complete.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), PlanError> {
        let written = files::replace(path, self.to_toml().as_bytes());
        written.map_err(|source| PlanError::Io { path: path.to_owned(), source })
    }
}

/// At most one byte more than a plan has.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// A TOML string: as it is where that is possible, which keeps backslashes readable.
fn quoted(text: &str) -> String {
    if text.chars().any(|char| char == '\'' || char.is_control()) {
        toml::Value::from(text).to_string()
    } else if text.contains(['\\', '"']) {
        format!("'{text}'")
    } else {
        format!("\"{text}\"")
    }
}

/// Where in a text something is.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    /// The line of a byte, from 1.
    fn number(&self, at: usize) -> usize {
        1 + self.0.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// The line of a range of bytes, and the rule that it is in.
    fn place(&self, span: Range<usize>) -> String {
        let line = self.number(span.start);
        let rules = self.0.lines().take(line).filter(|line| line.trim_start().starts_with("[[rule]]")).count();
        if rules == 0 { format!("line {line}") } else { format!("rule {rules}, line {line}") }
    }
}
