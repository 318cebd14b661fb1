//! A plan as a table: what each layer takes before and after.

use super::{Plan, PlanError, Planned, Size};
use burn_structured_checkpoint::{Checkpoint, linears};
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};

/// What a plan makes of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTable {
    /// The linear layers, in the order of the network.
    pub rows: Vec<PlanRow>,
    /// Sums.
    pub totals: PlanTotals,
}

/// What a plan makes of a layer; sizes are those of the weight, without the bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The layer's name.
    pub layer: String,
    /// The block that it belongs to.
    pub block: Option<usize>,
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Its structure; `None` if it stays dense.
    pub structure: Option<Structure>,
    /// The rule that decided, from 0.
    pub rule: Option<usize>,
    /// The dense weight.
    pub before: Size,
    /// The weight that the plan leaves.
    pub after: Size,
    /// The relative error that was predicted, of the outputs if their inputs were known, else of the weight.
    pub predicted_error: Option<f64>,
}

/// Sizes of a checkpoint's parts before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanTotals {
    /// The layers that get a structure.
    pub replaced: Change,
    /// All linear layers in the blocks.
    pub linear: Change,
    /// Everything in the file; FLOPs are those of the linear layers.
    pub file: Change,
}

/// A size before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Of the dense checkpoint.
    pub before: Size,
    /// Of the compressed one.
    pub after: Size,
}

impl Change {
    /// Parameters relative to those before; 1 if there were none.
    pub fn params_share(&self) -> f64 {
        if self.before.params == 0 { 1.0 } else { self.after.params as f64 / self.before.params as f64 }
    }
}

/// What `plan` makes of `checkpoint`. No weight is read.
///
/// # Errors
///
/// If a structure does not fit a layer.
pub fn table(checkpoint: &Checkpoint, plan: &Plan) -> Result<PlanTable, PlanError> {
    Ok(PlanTable::new(checkpoint, &plan.resolve(&linears(checkpoint))?))
}

impl PlanTable {
    pub(crate) fn new(checkpoint: &Checkpoint, planned: &[Planned]) -> Self {
        let rows: Vec<PlanRow> = planned.iter().map(|planned| PlanRow::new(checkpoint, planned)).collect();
        let change = |chosen: &dyn Fn(&PlanRow) -> bool| Change {
            before: rows.iter().filter(|row| chosen(row)).map(|row| row.before).sum(),
            after: rows.iter().filter(|row| chosen(row)).map(|row| row.after).sum(),
        };
        let (replaced, linear) = (change(&|row| row.structure.is_some()), change(&|_| true));
        let whole = Size {
            params: checkpoint.tensors().map(|tensor| tensor.elements()).sum(),
            flops_per_token: linear.before.flops_per_token,
            bytes: checkpoint.tensors().map(|tensor| tensor.byte_len()).sum(),
        };
        let file = Change { before: whole, after: whole - linear.before + linear.after };
        Self { totals: PlanTotals { replaced, linear, file }, rows }
    }
}

impl PlanRow {
    fn new(checkpoint: &Checkpoint, planned: &Planned) -> Self {
        let Planned { layer, structure, rule, before, after } = planned;
        // Factors have the type of the weight that they replace.
        let bits = checkpoint.tensor(&layer.weight).map_or(32, |tensor| tensor.dtype.bitsize());
        let size = |weights| Size::new(weights, bits.div_ceil(8));
        Self {
            layer: layer.name.clone(),
            block: layer.block,
            d_input: layer.d_input,
            d_output: layer.d_output,
            structure: *structure,
            rule: *rule,
            before: size(*before),
            after: size(*after),
            predicted_error: None,
        }
    }
}
