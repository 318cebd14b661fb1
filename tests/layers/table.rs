//! The layers under test, with what they should cost and keep.

use crate::parameters::filled;
use burn::tensor::Device;
use burn_structured::nn::{StructuredLinear, StructuredLinearConfig};

pub const D_INPUT: usize = 24;
pub const D_OUTPUT: usize = 18;

pub struct Entry {
    pub structure: &'static str,
    /// Stored weights, the bias aside, from the formula.
    pub weights: usize,
    /// FLOPs of a token, the bias aside, from the formula.
    pub flops: usize,
    /// How near `from_dense` comes to a matrix of the structure, in f64.
    pub recovery: f64,
}

const fn entry(structure: &'static str, weights: usize, multiplications: usize, recovery: f64) -> Entry {
    Entry { structure, weights, flops: 2 * multiplications, recovery }
}

const EXACT: f64 = 1e-10;

/// Grids that are square and not, odd blocks, rank 1, partly empty groups.
pub const TABLE: [Entry; 18] = [
    entry("dense", 24 * 18, 24 * 18, 0.0),
    entry("blast:b=2,r=5", 5 * (24 + 18 + 4), 5 * (24 + 18 + 4), 0.5),
    entry("blast:b=3x4,r=7", 7 * (24 + 18 + 12), 7 * (24 + 18 + 12), 0.5),
    entry("blast:b=1,r=1", 24 + 18 + 1, 24 + 18 + 1, EXACT),
    entry("low-rank:r=4", 4 * (24 + 18), 4 * (24 + 18), EXACT),
    // 5 blocks of 5 features in 3 groups; 9 features are added into the sketch.
    Entry { structure: "ss1:c=2,k=5,n=7", weights: 15 * 18, flops: 2 * 15 * 18 + 9, recovery: EXACT },
    // 6 blocks of 4 in 2 groups; 16 features for each of 3 blocks of rows.
    Entry {
        structure: "ss1:c=3,k=4,n=8,hash=independent",
        weights: 8 * 18,
        flops: 2 * 8 * 18 + 3 * 16,
        recovery: EXACT,
    },
    entry("monarch:b=2,r=3", 3 * (2 * 24 + 2 * 18), 3 * (2 * 24 + 2 * 18), EXACT),
    entry("monarch:b=3x4,r=1", 3 * 24 + 4 * 18, 3 * 24 + 4 * 18, EXACT),
    entry("block-diagonal:b=3", 24 * 18 / 3, 24 * 18 / 3, EXACT),
    entry("block-diagonal:ratio=0.2", 24 * 18 / 6, 24 * 18 / 6, EXACT),
    entry("pixelfly:b=6,stride=2,r=1", 2 * 24 * 18 / 6 + 24 + 18, 2 * 24 * 18 / 6 + 24 + 18, 0.2),
    entry("pixelfly:b=2,stride=1,r=2", 24 * 18 / 2 + 2 * (24 + 18), 24 * 18 / 2 + 2 * (24 + 18), 0.2),
    entry("gaudi:r=4,width=0.5", 4 * (24 + 18) + 4 * 4, 4 * (24 + 18), EXACT),
    entry("btt:b=6x4,r=2", 2 * (6 * 24 + 4 * 18), 2 * (6 * 24 + 4 * 18), EXACT),
    entry("btt:b=1x24,r=1", 24 + 24 * 18, 24 + 24 * 18, EXACT),
    entry("kronecker:b=6x4,r=2", 2 * (6 * 4 + 3 * 6), 2 * 4 * 3 * (6 + 6), EXACT),
    entry("kronecker:b=2x12,r=1", 2 * 12 + 9 * 2, 12 * 9 * (2 + 2), EXACT),
];

impl Entry {
    pub fn config(&self) -> StructuredLinearConfig {
        let structure = self.structure.parse().unwrap_or_else(|error| panic!("{}: {error}", self.structure));
        StructuredLinearConfig::new(D_INPUT, D_OUTPUT, structure)
    }

    /// The same layer on every device.
    pub fn layer(&self, device: &Device) -> StructuredLinear {
        filled(self.config().init(device), 1)
    }
}
