//! Plans: which structure each linear layer of a checkpoint gets.
//!
//! A [`Plan`] is an ordered list of rules, and the first one whose pattern is found in a layer's name decides. Layers that no rule
//! names stay dense. As a file it is TOML:
//!
//! ```toml
//! format = 1
//!
//! [[rule]]
//! pattern = 'layer\.0\.'
//! keep = true
//!
//! [[rule]]
//! pattern = 'attention'
//! structure = "blast:b=6,ratio=0.4"
//!
//! [[rule]]
//! pattern = '.*'
//! structure = "low-rank:r=96"
//! ```
//!
//! Patterns are [regular expressions](https://docs.rs/regex/latest/regex/#syntax) that match anywhere in a name, as those of
//! `burn-store`. A structure is written as [`Structure`] describes; shares of the dense parameters become ranks when the plan is
//! [resolved](Plan::resolve) on the layers of a checkpoint.
//!
//! [`propose`](fn@propose) writes a plan that reaches a size with the least error.

mod error;
mod file;
mod pattern;
mod propose;
mod rank_curve;
mod sensitivity;
mod size;
mod table;

pub use error::PlanError;
pub use pattern::Pattern;
pub use propose::{PlanConfig, PlanProgress, Proposal, propose};
pub use sensitivity::sensitivities;
pub use size::Size;
pub use table::{Change, PlanRow, PlanTable, PlanTotals, table};

pub(crate) use size::Resolved;

use burn_structured_checkpoint::LinearInfo;
use burn_structured_nn::Structure;

/// The format that is written, and the newest one that is read.
pub const FORMAT: u64 = 1;

/// Ordered rules for the linear layers of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The first rule whose pattern is found in a layer's name decides.
    pub rules: Vec<Rule>,
}

/// What happens to the layers of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which layers.
    pub pattern: Pattern,
    /// What happens to them.
    pub action: Action,
    /// The line of the plan's file that the rule begins in, for errors.
    pub(crate) line: Option<usize>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// The layers stay dense.
    Keep,
    /// The layers get this structure.
    Replace(Structure),
}

/// What a plan does with one layer.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The layer.
    pub layer: LinearInfo,
    /// Its structure, the block grid and the rank as numbers; `None` if it stays dense.
    pub structure: Option<Structure>,
    /// The rule that decided, from 0; `None` if no pattern is found in the layer's name.
    pub rule: Option<usize>,
    /// The dense weight, without the bias.
    pub before: Weights,
    /// The weight that the plan leaves, without the bias.
    pub after: Weights,
}

/// Numbers of a weight whatever its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Stored parameters.
    pub params: usize,
    /// FLOPs for one token.
    pub flops_per_token: usize,
}

impl Rule {
    /// The rule that the layers of a pattern get a structure, or stay dense if that is [`Structure::Dense`].
    pub fn new(pattern: Pattern, structure: Structure) -> Self {
        let action = if structure == Structure::Dense { Action::Keep } else { Action::Replace(structure) };
        Self { pattern, action, line: None }
    }

    /// The rule that the layers of a pattern stay dense.
    pub fn keep(pattern: Pattern) -> Self {
        Self { pattern, action: Action::Keep, line: None }
    }

    /// How an error names the rule at `index`.
    fn place(&self, index: usize) -> String {
        let line = self.line.map(|line| format!(", line {line}")).unwrap_or_default();
        format!("rule {}{line}", index + 1)
    }
}

impl Plan {
    /// What happens to each of these layers, in their order.
    ///
    /// # Errors
    ///
    /// If a structure does not fit a layer: the error names the rule, the layer and what would fit.
    pub fn resolve(&self, layers: &[LinearInfo]) -> Result<Vec<Planned>, PlanError> {
        layers.iter().map(|layer| self.resolve_layer(layer)).collect()
    }

    fn resolve_layer(&self, layer: &LinearInfo) -> Result<Planned, PlanError> {
        let (d_input, d_output) = (layer.d_input, layer.d_output);
        let before = Weights { params: d_input * d_output, flops_per_token: 2 * d_input * d_output };
        let rule = self.rules.iter().position(|rule| rule.pattern.is_match(&layer.name));
        let kept = Planned { layer: layer.clone(), structure: None, rule, before, after: before };
        let Some(index) = rule else { return Ok(kept) };
        let Action::Replace(structure) = self.rules[index].action else { return Ok(kept) };
        let resolved = Resolved::new(structure, d_input, d_output).map_err(|source| PlanError::Misfit {
            place: self.rules[index].place(index),
            structure,
            layer: layer.name.clone(),
            d_input,
            d_output,
            source: Box::new(source),
        })?;
        Ok(Planned { structure: Some(resolved.structure), after: resolved.weights, ..kept })
    }

    /// The rules that decide nothing, from 0: their patterns are in no layer's name, or earlier rules come first. Mostly a
    /// mistake.
    pub fn unused(&self, layers: &[LinearInfo]) -> Vec<usize> {
        let first = |layer: &LinearInfo| self.rules.iter().position(|rule| rule.pattern.is_match(&layer.name));
        let used: std::collections::BTreeSet<usize> = layers.iter().filter_map(first).collect();
        (0..self.rules.len()).filter(|rule| !used.contains(rule)).collect()
    }
}

/// `Err` if no layer is replaced.
pub(crate) fn check_replaces_something(planned: &[Planned]) -> Result<(), PlanError> {
    if planned.iter().any(|planned| planned.structure.is_some()) {
        return Ok(());
    }
    let names = planned.iter().take(3).map(|planned| planned.layer.name.clone()).collect();
    Err(PlanError::Nothing { layers: planned.len(), names })
}

#[cfg(test)]
mod tests;
