//! The strategies of BLAST besides `Auto` and the plain form, and which of them are paths of their own for a product.

use super::arguments::Pass;
use super::candidates::is_a_processor;
use burn::tensor::Tensor;
use burn_structured::nn::{BlastLinear, BlastStrategy};
use burn_structured::ops::blast::{BlastRejection, blast_rejection};

/// Whether the device of this name takes another path than for the strategies before.
type OnDevice = fn(&str) -> bool;

const STRATEGIES: [(&str, BlastStrategy, OnDevice); 7] = [
    ("staged", BlastStrategy::Staged, |device| device != "ndarray"),
    ("blocked", BlastStrategy::Blocked, |device| device == "flex"),
    ("decode", BlastStrategy::Decode, |device| device != "ndarray"),
    ("portable", BlastStrategy::Portable, |device| !has_no_kernels(device)),
    ("tensor core", BlastStrategy::TensorCore, |device| !is_a_processor(device)),
    ("fused", BlastStrategy::Fused, |device| !has_no_kernels(device)),
    ("tuned", BlastStrategy::Tuned, |device| cfg!(feature = "autotune") && !has_no_kernels(device)),
];

fn has_no_kernels(device: &str) -> bool {
    matches!(device, "flex" | "ndarray")
}

/// Those that can compute this product on the device of this name; why another cannot is told in `rejected`.
pub fn strategies(
    layer: &BlastLinear,
    x: &Tensor<2>,
    device: &str,
    pass: Pass,
    rejected: &mut dyn FnMut(String),
) -> Vec<(&'static str, BlastStrategy)> {
    let offered = STRATEGIES.into_iter().filter(|(_, _, own_path)| own_path(device));
    let runs = |(name, strategy, _): (&'static str, BlastStrategy, OnDevice)| {
        let why = match (strategy, pass) {
            (BlastStrategy::Decode, Pass::ForwardBackward) if !has_no_kernels(device) => {
                Some(BlastRejection::KeepsProjections)
            }
            _ => blast_rejection(x, &layer.u.val(), &layer.s.val(), &layer.v.val(), strategy),
        };
        if let Some(why) = why {
            rejected(format!("{name}: {why}"));
        }
        why.is_none().then_some((name, strategy))
    };
    offered.filter_map(runs).collect()
}
