//! What can be wrong with a plan. Each message names the rule and the line, and the way out.

use burn_structured_nn::{Structure, StructureError, StructureParseError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a plan cannot be read, made or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A plan's file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Something is wrong with the text of a file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What.
        source: Box<PlanError>,
    },
    /// A plan above the limits.
    #[error("the plan has {count} {unit}; {limit} is the most")]
    TooLarge {
        /// How many.
        count: usize,
        /// Of what.
        unit: &'static str,
        /// The most.
        limit: usize,
    },
    /// The text is no TOML, or has other fields than a plan.
    #[error("{place}: {reason}")]
    Syntax {
        /// The line, and the rule if there is one.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A plan in a format of a later version.
    #[error("the plan has format {format}, but this version reads format {newest}; update burn-structured")]
    Format {
        /// Its format.
        format: i64,
        /// The newest format that is known.
        newest: u64,
    },
    /// Something is wrong with a rule.
    #[error("{place}: {source}")]
    Rule {
        /// The rule and its line.
        place: String,
        /// What.
        source: Box<PlanError>,
    },
    /// A pattern that is no regular expression.
    #[error("the pattern `{pattern}` is no regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A structure that cannot be read.
    #[error(transparent)]
    Structure(#[from] StructureParseError),
    /// A rule that says neither or both.
    #[error("give one of `structure = \"…\"` and `keep = true`")]
    Action,
    /// A structure does not fit a layer.
    #[error("{place}: {structure} does not fit the layer {layer} ({d_input} → {d_output}): {source}")]
    Misfit {
        /// The rule and its line.
        place: String,
        /// The structure.
        structure: Structure,
        /// The layer.
        layer: String,
        /// Its input features.
        d_input: usize,
        /// Its output features.
        d_output: usize,
        /// Why not, and what would fit.
        source: Box<StructureError>,
    },
    /// A plan that leaves everything as it is.
    #[error(
        "the plan replaces none of the {layers} linear layers{}; write patterns that are found in their names",
        examples(names)
    )]
    Nothing {
        /// The layers of the checkpoint.
        layers: usize,
        /// Some of their names.
        names: Vec<String>,
    },
    /// A target that is no share.
    #[error("the target is {target}; use a share of the weights above 0 and below 1, such as 0.5")]
    Target {
        /// The target.
        target: f64,
    },
    /// No structure to choose from.
    #[error("there is no structure to choose from; offer one, such as blast:b=6")]
    NoStructure,
    /// None of the structures fits a layer.
    #[error(
        "no structure that is offered fits the layer {layer} ({d_input} → {d_output}): {source}; offer another one, or skip the layer"
    )]
    NoneFits {
        /// The layer.
        layer: String,
        /// Its input features.
        d_input: usize,
        /// Its output features.
        d_output: usize,
        /// Why the first one does not.
        source: Box<StructureError>,
    },
    /// A target that no choice of structures reaches.
    #[error(
        "the target is {target} of the weights, but the structures that are offered take {:.4} at least; raise it, or offer others",
        rounded_up(*fewest)
    )]
    OutOfReach {
        /// The target.
        target: f64,
        /// The share that the smallest choices take.
        fewest: f64,
    },
}

/// A share with four decimals, which is enough if it is used as a target.
fn rounded_up(share: f64) -> f64 {
    (share * 1e4).ceil() / 1e4
}

fn examples(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", such as {}", names.join(", ")) }
}
