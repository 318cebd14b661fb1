//! Sequential calibration: block after block, each layer fitted to the inputs that the compressed layers before it give.
//!
//! A layer that is calibrated by itself is fitted to inputs `x` of the dense model. In the compressed model it receives other ones,
//! `x̂`. Here every layer is fitted to `x̂`, so that its outputs are those of the dense layer on `x` (AA-SVD, arXiv 2604.02119;
//! GPTAQ), partly: with `x` replaced by `(1 - α) x̂ + α x`, as full correction can be worse on new text (SAES-SVD, 2602.03051).
//! The share `α` of a block is the one with the least error of the block's output on held-out batches.
//!
//! With moments `G = E[x̂ x̂ᵀ] + λ I` and `C = E[x x̂ᵀ] + λ I`, centred where the layer has a bias,
//!
//! ```text
//! E‖W x_α - Ŵ x̂‖² = ‖(T_α - Ŵ) G^½‖² + const,   T_α = W ((1 - α) I + α C G⁻¹)
//! ```
//!
//! for every `Ŵ`: the layer nearest to `T_α` in the metric `G` is the best one, whatever its structure. BLAST layers come from
//! the factorizer, low rank, Monarch and SS1 from their closed forms; see [`approximate`](fn@crate::approximate). The bias becomes
//! `b + W μ - Ŵ μ̂`, so that the mean of the outputs is that of the dense layer.
//!
//! A layer that writes to the residual stream can also repair it. Where its outputs are added to `r` in the dense model and to `r̂`
//! behind the compressed prefix ([`BlockModel::residual`](burn_structured_nn::BlockModel::residual)), it is fitted to
//! `W x_α + α (r - r̂)`: with `D = E[(r - r̂) x̂ᵀ]`, centred in the same way, the target is `T_α + α D G⁻¹`, and the bias has
//! `E[r - r̂]` added. On MiniLM with BLAST layers of half the parameters, that lowers the error behind the last of six blocks from
//! 0.530 to 0.493.

mod block;
mod inputs;
mod moments;
mod prefix;
#[cfg(test)]
mod tests;

pub(crate) use prefix::Prefix;

use crate::CompressError;
use crate::error::check_not_negative;
use crate::factorize::FactorizerConfig;
use burn::config::Config;
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};

/// How to calibrate a block.
#[derive(Config, Debug)]
pub struct SequentialConfig {
    /// Shares `α` of the dense model's inputs in the target to choose from; one value is used as it is, without measuring others.
    ///
    /// Each further one costs about as much as the first. With a thousand lines of text or more to calibrate on, the held-out error
    /// falls up to 1; with few, full correction fits what is particular to them, and a half is better.
    #[config(default = "vec![0.5, 1.0]")]
    pub alphas: Vec<f64>,
    /// Share of the identity in the second moments, whose mean diagonal is 1.
    #[config(default = 0.01)]
    pub regularization: f64,
    /// Share of the calibration batches that the moments are gathered from.
    #[config(default = 1.0)]
    pub share: f64,
    /// The factorizer of BLAST layers; the structures set its blocks and rank.
    #[config(default = "FactorizerConfig::new().with_steps(40)")]
    pub factorizer: FactorizerConfig,
}

impl SequentialConfig {
    fn check(&self) -> Result<(), CompressError> {
        check_not_negative("regularization", self.regularization)?;
        if self.alphas.is_empty() {
            return Err(CompressError::Setting { name: "alphas", value: 0.0, range: "list at least one" });
        }
        for (name, values) in [("alpha", self.alphas.as_slice()), ("share", &[self.share])] {
            if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                return Err(CompressError::Setting { name, value: *value, range: "use a share from 0 to 1" });
            }
        }
        Ok(())
    }
}

/// What an observer receives while a block is compressed.
#[derive(Clone, Debug, PartialEq)]
pub struct SequentialStep {
    /// The block.
    pub block: usize,
    /// The share of the dense inputs that is tried.
    pub alpha: f64,
    /// The layers that are fitted next, by name; none if it was the last step.
    pub layers: Vec<String>,
    /// Groups of layers that are fitted, over all shares.
    pub done: usize,
    /// How many there are.
    pub steps: usize,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockReport {
    /// Which one.
    pub block: usize,
    /// The layers that were replaced.
    pub layers: Vec<LayerReport>,
    /// The share of the dense inputs in the targets.
    pub alpha: f64,
    /// `‖f(x) - f̂(x̂)‖ / ‖f(x)‖` of the block's outputs on the held-out batches.
    pub output_error: f64,
    /// The same for every share that was tried.
    pub tried: Vec<(f64, f64)>,
    /// The time it took.
    pub seconds: f64,
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Its name in the model's checkpoints.
    pub name: String,
    /// The structure, with its rank as a number.
    pub structure: Structure,
    /// Its parameters, the bias included.
    pub params: usize,
    /// `‖(T - Ŵ) G^½‖ / ‖T G^½‖` for the target `T`: the error of the outputs on the calibration batches, relative to what the layer was fitted to.
    pub relative_error: f64,
}
