//! Whether the gradient of the input can be computed from the stored weights.
//!
//! It cannot for:
//!
//! - blocks of more than [`UNITS`] · [`MAX_COLS`] features: all of a group's stored weights have to be in one tile, since a
//!   rotation may bring any of them to any feature;
//! - groups of so many blocks that a unit's share of their gradients exceeds its registers;
//! - CPUs, where barriers cost more than the arithmetic they save.

use crate::cube::{Limits, fits_registers};
use crate::ss1::Fold;
use burn::tensor::DType;

/// Units of a cube along the tokens, and along the stored weights.
const UNITS: usize = 16;
/// Tokens of a unit, the most first.
const ROWS: [usize; 3] = [4, 2, 1];
/// Stored weights of a unit at most.
const MAX_COLS: usize = 4;
/// Depth of a step through shared memory.
pub(super) const GRADIENT_DEPTH: usize = 16;

/// A cube of `units × units`, each unit with `rows × cols` elements of a sketch's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GradientTile {
    pub(super) units: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// The tile that holds the stored weights of a group, as many tokens as fit, if there is one.
pub(super) fn gradient_tile(fold: Fold, sums: DType, limits: Limits) -> Option<GradientTile> {
    let cols = fold.block_k.div_ceil(UNITS);
    if cols > MAX_COLS || limits.units < UNITS * UNITS || limits.processor {
        return None;
    }
    let fits = |rows: &usize| {
        let (height, width) = (UNITS * rows, UNITS * cols);
        let shared = ((height + width) * GRADIENT_DEPTH + height * width) * sums.size();
        fits_registers(fold.reduction * rows * cols, sums.size()) && limits.shared_memory >= shared
    };
    ROWS.into_iter().find(fits).map(|rows| GradientTile { units: UNITS, rows, cols })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cube::TensorCores;
    use crate::ss1::Rotations;

    const DEVICE: Limits = Limits {
        units: 1024,
        shared_memory: 16 * 1024,
        gpu: true,
        processor: false,
        tensor_cores: TensorCores { f16: false, bf16: false },
    };

    fn fold(reduction: usize, block_k: usize) -> Fold {
        let rotations = Rotations::Drawn { seed: 1, signs: true };
        Fold { d_input: 768, reduction, block_k, block_n: 32, rotations }
    }

    #[test]
    fn gradient_tile_fits_the_group() {
        let tile = |reduction, block_k| gradient_tile(fold(reduction, block_k), DType::F32, DEVICE);
        assert_eq!(tile(4, 16), Some(GradientTile { units: 16, rows: 4, cols: 1 }));
        assert_eq!(tile(8, 64), Some(GradientTile { units: 16, rows: 2, cols: 4 }));
        assert_eq!(tile(16, 64), Some(GradientTile { units: 16, rows: 1, cols: 4 }));
        assert_eq!(tile(17, 64), None, "registers");
        assert_eq!(tile(2, 65), None, "block of features");
    }

    #[test]
    fn gradient_tile_needs_units_and_shared_memory() {
        let tile = |limits| gradient_tile(fold(4, 64), DType::F32, limits);
        assert!(tile(DEVICE).is_some());
        assert_eq!(tile(Limits { units: 128, ..DEVICE }), None);
        assert_eq!(tile(Limits { shared_memory: 4 * 1024, ..DEVICE }), None);
        assert_eq!(tile(Limits { processor: true, ..DEVICE }), None);
    }
}
