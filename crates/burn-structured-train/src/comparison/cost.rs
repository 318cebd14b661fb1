//! What a model costs, beside the dense one.

use burn_structured_models::ItemCost;
use burn_structured_models::decoder::DecoderCost;
use burn_structured_models::vit::ViTCost;
use serde::{Deserialize, Serialize};

/// Parameters, and FLOPs for one image or one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCost {
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of the replaced linear layers.
    pub replaced_flops: usize,
    /// [`replaced_flops`](Self::replaced_flops) relative to dense layers.
    pub relative_flops: f64,
    /// FLOPs of the whole model.
    pub model_flops: usize,
    /// [`model_flops`](Self::model_flops) relative to the dense model.
    pub relative_model_flops: f64,
}

impl ModelCost {
    /// The columns of a table, for FLOPs of one `unit`.
    pub(super) fn titles(unit: &str) -> [String; 5] {
        ["params".into(), format!("linear FLOPs/{unit}"), "rel.".into(), format!("model FLOPs/{unit}"), "rel.".into()]
    }

    /// The cells of a row of that table.
    pub(super) fn cells(&self) -> [String; 5] {
        [
            self.params.to_string(),
            format!("{:.2} M", self.replaced_flops as f64 / 1e6),
            format!("{:.0} %", 100.0 * self.relative_flops),
            format!("{:.2} M", self.model_flops as f64 / 1e6),
            format!("{:.0} %", 100.0 * self.relative_model_flops),
        ]
    }
}

impl From<ViTCost> for ModelCost {
    fn from(cost: ViTCost) -> Self {
        Self {
            params: cost.params,
            replaced_flops: cost.replaced_flops(),
            relative_flops: cost.replaced.flops_ratio(),
            model_flops: cost.model_flops(),
            relative_model_flops: cost.model_flops_ratio(),
        }
    }
}

impl From<ItemCost> for ModelCost {
    fn from(cost: ItemCost) -> Self {
        Self {
            params: cost.params,
            replaced_flops: cost.replaced_flops,
            relative_flops: cost.replaced_flops_ratio(),
            model_flops: cost.model_flops(),
            relative_model_flops: cost.model_flops_ratio(),
        }
    }
}

impl From<DecoderCost> for ModelCost {
    fn from(cost: DecoderCost) -> Self {
        Self {
            params: cost.params,
            replaced_flops: cost.replaced_flops(),
            relative_flops: cost.replaced.flops_ratio(),
            model_flops: cost.model_flops(),
            relative_model_flops: cost.model_flops_ratio(),
        }
    }
}
