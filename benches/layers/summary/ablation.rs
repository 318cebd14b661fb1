//! The table of the ablation: the engine without one of its mechanisms, beside the full one.

use super::files::Recorded;
use super::{source, table};
use crate::arguments::Pass;
use crate::compare::geometric_mean;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// `ablation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ablation {
    /// Raised when a field changes its meaning.
    pub format: u32,
    /// What was measured, at which commit.
    pub program: String,
    /// The machine, in words.
    pub machine: String,
    /// How both builds were measured.
    pub command: String,
    /// The variants.
    pub variants: Vec<Variant>,
}

/// The engine with one mechanism replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Variant {
    /// The mechanism.
    pub name: String,
    /// What replaces it.
    pub what: String,
    /// Each row's time by the full engine over that by the variant.
    pub rows: Vec<Ratio>,
    /// Of all ratios; below 1 the variant is slower.
    pub geometric_mean: f64,
    /// Half of the range between the quartiles of the ratios.
    pub spread: f64,
    /// `kept` or `removed`, and why.
    pub decision: String,
}

/// A row of the layer benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// `768x3072`.
    pub layer: String,
    /// In text form.
    pub structure: String,
    /// Rows of the input.
    pub tokens: usize,
    /// `forward` or `forward-backward`.
    pub pass: Pass,
    /// The time of the full engine over the variant's.
    pub ratio: f64,
}

/// All that the page says of the ablation.
pub fn section(file: &Recorded<Ablation>) -> String {
    let ablation = &file.results;
    let rows = || ablation.variants.iter().flat_map(|variant| &variant.rows);
    let tokens: BTreeSet<usize> = rows().map(|row| row.tokens).collect();
    let mut head = vec!["mechanism".to_string(), "replaced by".to_string()];
    head.extend(tokens.iter().map(|tokens| format!("{tokens} tokens")));
    head.extend(["all".to_string(), "decision".to_string()]);
    let line = |variant: &Variant| {
        let mean = |tokens: &usize| {
            let ratios = variant.rows.iter().filter(|row| row.tokens == *tokens).map(|row| row.ratio);
            geometric_mean(ratios).map_or_else(String::new, |mean| format!("{mean:.3}"))
        };
        let all = format!("{:.3} ±{:.0} %", variant.geometric_mean, 100.0 * variant.spread);
        let mut cells = vec![variant.name.clone(), variant.what.clone()];
        cells.extend(tokens.iter().map(mean));
        cells.extend([all, variant.decision.clone()]);
        cells
    };
    let lines: Vec<Vec<String>> = ablation.variants.iter().map(line).collect();
    format!(
        "\n### Ablation of the engine\n\n\
         The time of the full engine over that of the variant, geometric means over the rows: below 1 the mechanism gains.\n{}{}",
        source(file, &ablation.program, "", &ablation.command),
        table(&head, &lines)
    )
}
