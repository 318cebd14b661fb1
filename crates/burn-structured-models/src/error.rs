//! Why a model cannot be built.

use burn_structured_nn::{Structure, StructureError};
use thiserror::Error;

/// Why a model cannot be built from its configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A setting that is zero, or does not divide another.
    #[error("{name} = {value} {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it and what would work.
        problem: String,
    },
    /// A layer's structure does not fit its dimensions.
    #[error("{layer} ({d_input} → {d_output}, {structure}): {source}")]
    Structure {
        /// The layer, by the name of its setting: `qkv`, `proj`, …
        layer: &'static str,
        /// Its input features.
        d_input: usize,
        /// Its output features.
        d_output: usize,
        /// The requested structure.
        structure: Structure,
        /// Why it does not fit.
        source: Box<StructureError>,
    },
}

impl ModelError {
    pub(crate) fn setting(name: &'static str, value: impl ToString, problem: impl Into<String>) -> Self {
        Self::Setting { name, value: value.to_string(), problem: problem.into() }
    }

    /// Each of these settings is at least 1.
    pub(crate) fn check_positive(settings: &[(&'static str, usize)]) -> Result<(), Self> {
        match settings.iter().find(|(_, value)| *value == 0) {
            Some((name, value)) => Err(Self::setting(name, value, "must be at least 1")),
            None => Ok(()),
        }
    }

    /// The first setting divides the second.
    pub(crate) fn check_divides(
        (name, value): (&'static str, usize),
        (multiple, size): (&'static str, usize),
    ) -> Result<(), Self> {
        if size.is_multiple_of(value) {
            return Ok(());
        }
        Err(Self::setting(name, value, format!("does not divide {multiple} = {size}; choose a divisor of it")))
    }

    /// So many times `d_model` features are at least one.
    pub(crate) fn check_ratio((name, ratio): (&'static str, f64), d_model: usize, problem: &str) -> Result<(), Self> {
        if ratio > 0.0 && (d_model as f64 * ratio) as usize > 0 {
            return Ok(());
        }
        Err(Self::setting(name, ratio, problem))
    }

    /// Each of these settings is a probability below 1.
    pub(crate) fn check_probabilities(settings: &[(&'static str, f64)]) -> Result<(), Self> {
        match settings.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            Some((name, value)) => Err(Self::setting(name, value, "is no probability from 0 to below 1")),
            None => Ok(()),
        }
    }
}
