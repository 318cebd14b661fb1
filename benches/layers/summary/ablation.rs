//! The table of the ablation: the engine without one of its mechanisms, beside the full one.

use super::files::Recorded;
use super::source;
use crate::arguments::Pass;
use serde::{Deserialize, Serialize};

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

/// All that the page says of the ablation; the ratios by tokens are in the file.
pub fn section(file: &Recorded<Ablation>) -> String {
    let ablation = &file.results;
    let variant = |variant: &Variant| {
        format!(
            "{} {:.3} ±{:.0} % ({})",
            variant.name,
            variant.geometric_mean,
            100.0 * variant.spread,
            variant.decision
        )
    };
    let variants: Vec<String> = ablation.variants.iter().map(variant).collect();
    format!(
        "\n### Ablation of the engine\n\n\
         The time of the full engine over that without a mechanism, geometric means over layers and tokens: below 1 the mechanism gains.\n\
         {}- {}.\n",
        source(file, &ablation.program, "", &ablation.command),
        variants.join("; ")
    )
}
