//! What an SS1 layer computes apart from its weights: the hash, the numbers it is saved as, and the authors' layout.

use crate::StructureError;
use crate::error::check_dimensions;
use burn::tensor::{Tensor, TensorData};
use burn_structured_ops::ss1::{Fold, Rotations};
use serde::{Deserialize, Serialize};

/// Where the rotations of an SS1 layer come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ss1Hash {
    /// The authors' hash: block `j` of group `g` is rotated by
    /// `(r3 + r2 nb + r1 (g + 1) + r0 (j + 1)) · vec mod K` for block `nb` of output rows.
    ///
    /// The rotation *between* blocks of a group is `r0 · vec` for all rows, so one sketch of the input serves them all: the
    /// layer is a fold of the input and a dense product at `1/c` of the FLOPs. Its rank is at most `d_input / c` (a random
    /// 128×128 layer with `c` = 2, 4, 8 has rank 64, 32, 16).
    Additive {
        /// `[r3, r2, r1, r0]`.
        constants: [u32; 4],
        /// The granularity of the rotations.
        vec: u32,
    },
    /// A rotation of its own, to any position, for every block and every block of output rows, with signs if given.
    ///
    /// The rank is nearly full, with signs full (a random 128×128 layer of `K = N = 16` and `c` = 2, 4, 8 has rank 124, 121,
    /// 120, with signs 128); each block of output rows needs a sketch of its own.
    Independent {
        /// What distinguishes one draw from another.
        seed: u32,
        /// Whether blocks have random signs as well.
        signs: bool,
    },
}

impl Ss1Hash {
    pub(super) fn describe(self) -> String {
        match self {
            Self::Additive { .. } => "additive",
            Self::Independent { signs: true, .. } => "independent, signed",
            Self::Independent { signs: false, .. } => "independent",
        }
        .into()
    }
}

impl Default for Ss1Hash {
    fn default() -> Self {
        Self::Additive { constants: [7, 36423, 7598, 13015], vec: 1 }
    }
}

/// What a layer computes apart from its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) d_input: usize,
    pub(crate) reduction: usize,
    pub(super) block_k: usize,
    pub(super) block_n: usize,
    pub(super) hash: Ss1Hash,
}

/// The largest side of a layer: sizes are saved, and positions computed, in 32 bits.
const MAX_SIDE: usize = i32::MAX as usize / 2;

/// Rows that share their rotations by default, which may be more than a small layer has.
pub(super) const DEFAULT_BLOCK_N: usize = 64;

impl Function {
    /// `[kind, d_input, c, K, N]` and five 32-bit numbers in halves, which fit every integer type.
    pub(super) const LEN: usize = 15;

    /// Additions of the sketches of one token, for a layer with stored weights `[width, d_output]`.
    pub(crate) fn additions(&self, width: usize, d_output: usize) -> usize {
        self.d_input.saturating_sub(width) * self.fold(d_output).output_blocks(d_output)
    }

    /// `Err` if a setting is zero, or above what a layer of `d_output` features has.
    pub(super) fn check(&self, d_output: usize) -> Result<(), StructureError> {
        let Self { d_input, reduction, block_k, block_n, .. } = *self;
        check_dimensions(d_input, d_output)?;
        for (name, value) in [("reduction", reduction), ("block_k", block_k), ("block_n", block_n)] {
            if value == 0 {
                return Err(StructureError::ZeroSetting { name });
            }
        }
        let block_n_limit = d_output.max(DEFAULT_BLOCK_N);
        for (name, value, limit) in [
            ("d_input", d_input, MAX_SIDE),
            ("d_output", d_output, MAX_SIDE),
            ("block_k", block_k, d_input),
            ("block_n", block_n, block_n_limit),
        ] {
            if value > limit {
                return Err(StructureError::SettingTooLarge { name, value, limit, d_output, d_input });
            }
        }
        let blocks = d_input.div_ceil(block_k);
        if reduction > blocks {
            return Err(StructureError::ReductionTooLarge { reduction, blocks, d_input, block_k });
        }
        Ok(())
    }

    /// Whether stored weights `[width, d_output]` are those of a layer of this function.
    pub(super) fn fits(&self, width: usize, d_output: usize) -> bool {
        self.check(d_output).is_ok() && self.fold(d_output).width() == width
    }

    pub(crate) fn fold(&self, d_output: usize) -> Fold {
        let Self { d_input, reduction, block_k, block_n, hash } = *self;
        let rotations = match hash {
            Ss1Hash::Additive { constants: [.., r0], vec } => {
                let step = u64::from(r0) * u64::from(vec) % block_k as u64;
                Rotations::Arithmetic { step: step as u32 }
            }
            Ss1Hash::Independent { seed, signs } => Rotations::Drawn { seed, signs },
        };
        Fold { d_input, reduction, block_k, block_n: block_n.min(d_output), rotations }
    }

    /// As 32-bit integers; [`check`](Self::check) bounds the sizes.
    pub(super) fn to_numbers(self) -> Vec<i32> {
        let (kind, numbers) = match self.hash {
            Ss1Hash::Additive { constants: [r3, r2, r1, r0], vec } => (0, [r3, r2, r1, r0, vec]),
            Ss1Hash::Independent { seed, signs } => (1, [seed, signs.into(), 0, 0, 0]),
        };
        let sizes = [self.d_input, self.reduction, self.block_k, self.block_n].map(|size| size as i32);
        let halves = numbers.into_iter().flat_map(|number| [(number >> 16) as i32, (number & 0xffff) as i32]);
        std::iter::once(kind).chain(sizes).chain(halves).collect()
    }

    pub(super) fn from_numbers(numbers: &[i64]) -> Option<Self> {
        let &[kind, d_input, reduction, block_k, block_n, ref halves @ ..] = numbers else {
            return None;
        };
        let size = |number: i64| usize::try_from(number).ok().filter(|size| *size > 0);
        let number = |pair: &[i64]| {
            let half = |half: i64| u16::try_from(half).ok().map(u32::from);
            Some(half(pair[0])? << 16 | half(pair[1])?)
        };
        let numbers = halves.chunks_exact(2).map(number).collect::<Option<Vec<u32>>>()?;
        let hash = match (kind, numbers.as_slice()) {
            (0, &[r3, r2, r1, r0, vec]) => Ss1Hash::Additive { constants: [r3, r2, r1, r0], vec },
            (1, &[seed, signs, ..]) => Ss1Hash::Independent { seed, signs: signs != 0 },
            _ => return None,
        };
        Some(Self {
            d_input: size(d_input)?,
            reduction: size(reduction)?,
            block_k: size(block_k)?,
            block_n: size(block_n)?,
            hash,
        })
    }
}

/// `[m, w]` with every group rotated as the authors store it, or back (`undo`).
pub(super) fn rotate(weight: Tensor<2>, function: Function, undo: bool) -> Tensor<2> {
    let Ss1Hash::Additive { constants, vec } = function.hash else {
        return weight; // this hash has no other layout
    };
    let [m, width] = weight.dims();
    let k = function.block_k;
    // The product of three 32-bit numbers.
    let [r3, r2, r1, r0] = constants.map(u128::from);
    let mut indices = Vec::with_capacity(m * width);
    for o in 0..m {
        for position in 0..width {
            let (group, q) = (position / k, position % k);
            let row_block = (o / function.block_n) as u128;
            let shift = (r3 + r2 * row_block + r1 * (group as u128 + 1) + r0) * u128::from(vec) % k as u128;
            let shift = shift as usize;
            let source = if undo { (q + k - shift) % k } else { (q + shift) % k };
            indices.push((group * k + source) as i32);
        }
    }
    let device = weight.device();
    weight.gather(1, Tensor::from_data(TensorData::new(indices, [m, width]), &device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_survives_its_numbers() {
        let additive = Ss1Hash::Additive { constants: [u32::MAX, 1, 0x8000_0000, 65536], vec: 8 };
        for hash in [additive, Ss1Hash::Independent { seed: u32::MAX, signs: false }] {
            let function = Function { d_input: 40, reduction: 2, block_k: 8, block_n: 4, hash };
            let numbers: Vec<i64> = function.to_numbers().into_iter().map(i64::from).collect();
            assert_eq!(numbers.len(), Function::LEN);
            assert_eq!(Function::from_numbers(&numbers), Some(function));
        }
        assert_eq!(Function::from_numbers(&[0; Function::LEN]), None);
        assert_eq!(Function::from_numbers(&[1, 2, 3]), None);
    }
}
