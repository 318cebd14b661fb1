//! The strategies of BLAST and SS1, `Auto` and the plain form aside, and which of them are paths of their own for a product.

use super::arguments::Pass;
use super::candidates::is_a_processor;
use burn::tensor::Tensor;
use burn_structured::nn::{BlastLinear, BlastStrategy, Ss1Strategy, StructuredLinear};
use burn_structured::ops::blast::{BlastCandidate, UnsupportedStrategy, blast_unsupported};

/// Whether the device of this name takes another path than for the strategies before.
type OnDevice = fn(&str) -> bool;

const OF_BLAST: [(&str, BlastStrategy, OnDevice); 6] = [
    ("staged", BlastStrategy::Staged, |device| device != "ndarray"),
    ("decode", BlastStrategy::Decode, |device| device != "ndarray"),
    ("tiled GEMM", BlastStrategy::Candidate(BlastCandidate::TiledGemm), |device| !has_no_kernels(device)),
    ("tensor core", BlastStrategy::Candidate(BlastCandidate::TensorCore), |device| !is_a_processor(device)),
    ("fused", BlastStrategy::Fused, |device| device != "ndarray"),
    ("autotuned", BlastStrategy::Candidate(BlastCandidate::Autotuned), |device| {
        cfg!(feature = "autotune") && !has_no_kernels(device)
    }),
];

const OF_SS1: [(&str, Ss1Strategy); 2] = [("staged", Ss1Strategy::Staged), ("fused", Ss1Strategy::Fused)];

fn has_no_kernels(device: &str) -> bool {
    matches!(device, "flex" | "ndarray")
}

/// A strategy of the structure that it belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Path {
    Blast(BlastStrategy),
    Ss1(Ss1Strategy),
}

impl Path {
    /// The output of a layer of that structure.
    pub fn forward(self, layer: &StructuredLinear, x: Tensor<2>) -> Tensor<2> {
        match (self, layer) {
            (Self::Blast(strategy), StructuredLinear::Blast(layer)) => layer.forward_with(x, strategy),
            (Self::Ss1(strategy), StructuredLinear::Ss1(layer)) => layer.forward_with(x, strategy),
            (path, _) => unreachable!("{path:?} is offered for its own structure alone"),
        }
    }
}

/// Those that can compute this product on the device of this name; why another cannot is told in `rejected`.
pub fn strategies(
    layer: &StructuredLinear,
    x: &Tensor<2>,
    device: &str,
    pass: Pass,
    rejected: &mut dyn FnMut(String),
) -> Vec<(&'static str, Path)> {
    match layer {
        StructuredLinear::Blast(layer) => of_blast(layer, x, device, pass, rejected),
        StructuredLinear::Ss1(_) if device != "ndarray" => {
            OF_SS1.into_iter().map(|(name, strategy)| (name, Path::Ss1(strategy))).collect()
        }
        _ => Vec::new(),
    }
}

fn of_blast(
    layer: &BlastLinear,
    x: &Tensor<2>,
    device: &str,
    pass: Pass,
    rejected: &mut dyn FnMut(String),
) -> Vec<(&'static str, Path)> {
    let offered = OF_BLAST.into_iter().filter(|(_, _, own_path)| own_path(device));
    let runs = |(name, strategy, _): (&'static str, BlastStrategy, OnDevice)| {
        let why = match (strategy, pass) {
            (BlastStrategy::Decode, Pass::ForwardBackward) if !has_no_kernels(device) => {
                Some(UnsupportedStrategy::KeepsProjections)
            }
            _ => blast_unsupported(x, &layer.u.val(), &layer.s.val(), &layer.v.val(), strategy),
        };
        if let Some(why) = why {
            rejected(format!("{name}: {why}"));
        }
        why.is_none().then_some((name, Path::Blast(strategy)))
    };
    offered.filter_map(runs).collect()
}
