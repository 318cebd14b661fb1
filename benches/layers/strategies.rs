//! The strategies of BLAST and SS1, `Auto` and `Reference` aside, and which of them differ on a device.

use super::arguments::Pass;
use super::candidates::is_a_processor;
use burn::tensor::Tensor;
use burn_structured::nn::{BlastLinear, BlastStrategy, Ss1Strategy, StructuredLinear};
use burn_structured::ops::blast::{BlastCandidate, UnsupportedStrategy, blast_unsupported};

/// Whether the strategy differs, on the device of this name, from those listed before it.
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

/// A strategy of BLAST or of SS1.
#[derive(Clone, Copy, Debug)]
pub enum Strategy {
    Blast(BlastStrategy),
    Ss1(Ss1Strategy),
}

impl Strategy {
    /// The output of a layer of that structure.
    pub fn forward(self, layer: &StructuredLinear, x: Tensor<2>) -> Tensor<2> {
        match (self, layer) {
            (Self::Blast(strategy), StructuredLinear::Blast(layer)) => layer.forward_with(x, strategy),
            (Self::Ss1(strategy), StructuredLinear::Ss1(layer)) => layer.forward_with(x, strategy),
            (strategy, _) => unreachable!("{strategy:?} is listed for its own structure alone"),
        }
    }
}

/// Those that can compute this product on the device of this name; `unsupported` is called with the reason for each of the others.
pub fn strategies(
    layer: &StructuredLinear,
    x: &Tensor<2>,
    device: &str,
    pass: Pass,
    unsupported: &mut dyn FnMut(String),
) -> Vec<(&'static str, Strategy)> {
    match layer {
        StructuredLinear::Blast(layer) => of_blast(layer, x, device, pass, unsupported),
        StructuredLinear::Ss1(_) if device != "ndarray" => {
            OF_SS1.into_iter().map(|(name, strategy)| (name, Strategy::Ss1(strategy))).collect()
        }
        _ => Vec::new(),
    }
}

fn of_blast(
    layer: &BlastLinear,
    x: &Tensor<2>,
    device: &str,
    pass: Pass,
    unsupported: &mut dyn FnMut(String),
) -> Vec<(&'static str, Strategy)> {
    let listed = OF_BLAST.into_iter().filter(|(_, _, differs)| differs(device));
    let runs = |(name, strategy, _): (&'static str, BlastStrategy, OnDevice)| {
        let why = match (strategy, pass) {
            (BlastStrategy::Decode, Pass::ForwardBackward) if !has_no_kernels(device) => {
                Some(UnsupportedStrategy::KeepsProjections)
            }
            _ => blast_unsupported(x, &layer.u.val(), &layer.s.val(), &layer.v.val(), strategy),
        };
        if let Some(why) = why {
            unsupported(format!("{name}: {why}"));
        }
        why.is_none().then_some((name, Strategy::Blast(strategy)))
    };
    listed.filter_map(runs).collect()
}
