//! One launch or two for up to 8 tokens, and the cubes of each.

use super::super::strategy::Problem;
use super::couple::CoupleCube;
use super::expand::ExpandCube;
use super::single::SingleCube;
use crate::blast::Sizes;
use crate::cube::{Limits, PROCESSOR_UNITS, accumulator};

/// More would leave a unit too few registers.
const DECODE_TOKENS: usize = 8;

/// Tokens at most: what a cube has units and registers for.
pub(in crate::blast::cube) fn most_tokens(limits: Limits) -> usize {
    if limits.processor { PROCESSOR_UNITS } else { DECODE_TOKENS }
}

/// Units of a decoding cube.
const DECODE_UNITS: usize = 256;
/// Units along the rank, so that a plane reads whole lines of memory.
const LANES: usize = 32;
/// Bytes that a unit loads at a time at most.
pub(super) const WIDEST_LOAD: usize = 16;
/// Ranks of a cube of the first launch.
const SLICE: usize = 16;
/// Slices that a device should have to work on at least; with fewer, they are half as wide, but not narrower than a sector.
const TARGET_SLICES: usize = 48;
/// Bytes that come from memory at once.
const SECTOR: usize = 32;
/// The largest `V` that every cube may read for itself. With more, that takes longer than the launch that it saves.
const ONE_LAUNCH_BYTES: usize = 48 * 1024;
/// Cubes of a single launch at most: each reads all of `V`.
const ONE_LAUNCH_CUBES: usize = 16;

/// The launches of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Every cube computes the `t_i` of its output block, then `passes · splits` rows.
    One { cube: SingleCube, passes: usize },
    /// All `t_i` first, then the output rows.
    Two,
}

/// One launch where `V` is small and `t_i` fits a cube, two otherwise.
pub(super) fn plan(problem: Problem, limits: Limits) -> Plan {
    let Sizes { tokens, b1, b2, p, q, r } = problem.sizes;
    let cube = single_cube(tokens, limits);
    let shared = cube.shared(r) * accumulator(problem.dtype).size();
    if b2 * q * r * problem.dtype.size() <= ONE_LAUNCH_BYTES && shared <= limits.shared_memory {
        let per_block = (ONE_LAUNCH_CUBES / b1).max(1);
        return Plan::One { cube, passes: p.div_ceil(per_block).div_ceil(cube.splits) };
    }
    Plan::Two
}

/// Units and bytes of shared memory that a cube may need.
pub(in crate::blast::cube) fn needs(problem: Problem, limits: Limits) -> (usize, usize) {
    let (units, values) = match plan(problem, limits) {
        Plan::One { cube, .. } => (cube.units(), cube.shared(problem.sizes.r)),
        Plan::Two => {
            // The widest vectors need the most.
            let vector = (WIDEST_LOAD / problem.dtype.size()).max(1);
            let (couple, expand) = (couple_cube(problem, vector, limits), expand_cube(problem, vector, limits));
            (couple.units().max(expand.units()), couple.shared().max(expand.shared()))
        }
    };
    (units, values * accumulator(problem.dtype).size())
}

/// The cube of a single launch for up to `tokens` tokens.
fn single_cube(tokens: usize, limits: Limits) -> SingleCube {
    let tokens = tokens.next_power_of_two();
    let (lanes, splits) = match limits.processor {
        true => (PROCESSOR_UNITS, PROCESSOR_UNITS),
        false => (LANES, DECODE_UNITS / LANES),
    };
    SingleCube { lanes, splits, tokens }
}

/// A cube of the first of two launches, which reads `v` in vectors of `vector` elements.
///
/// Few slices of the rank, so that each row is read by whole sectors, and therefore many units in each: as many as their
/// sums leave registers and shared memory for.
pub(super) fn couple_cube(problem: Problem, vector: usize, limits: Limits) -> CoupleCube {
    let Sizes { tokens, b2, r, .. } = problem.sizes;
    let tokens = tokens.next_power_of_two();
    if limits.processor {
        let (lanes, splits) = (PROCESSOR_UNITS, PROCESSOR_UNITS);
        return CoupleCube { lanes, vector: 1, splits, groups: 1, in_blocks: b2, tokens, in_flight: 1 };
    }
    let slice = if r / SLICE < TARGET_SLICES { SLICE / 2 } else { SLICE };
    let lanes = (slice.max(SECTOR / problem.dtype.size()) / vector).max(1);
    let of = |units: usize| {
        let splits = 1 << (units / lanes).max(vector).ilog2();
        let groups = 1 << b2.min(splits / vector).ilog2();
        CoupleCube { lanes, vector, splits, groups, in_blocks: b2, tokens, in_flight: 4 }
    };
    let fits = |cube: &CoupleCube| cube.shared() * accumulator(problem.dtype).size() <= limits.shared_memory;
    let most = (2048 / tokens).clamp(256, 1024).min(limits.units);
    (0..=most.ilog2()).map(|halvings| of(most >> halvings)).find(fits).unwrap_or_else(|| of(1))
}

/// A cube of the second of two launches, which reads `u` in vectors of `vector` elements.
pub(super) fn expand_cube(problem: Problem, vector: usize, limits: Limits) -> ExpandCube {
    let tokens = problem.sizes.tokens.next_power_of_two();
    if limits.processor {
        let (lanes, planes) = (PROCESSOR_UNITS, PROCESSOR_UNITS);
        return ExpandCube { lanes, vector: 1, planes, rows: 1, tokens, in_flight: 1 };
    }
    let rows = if tokens <= 4 { 2 } else { 1 };
    ExpandCube { lanes: LANES, vector, planes: DECODE_UNITS / LANES, rows, tokens, in_flight: 2 }
}

#[cfg(test)]
mod tests {
    use super::super::super::strategy::tests::{DEVICE, problem};
    use super::*;
    use crate::cube::fits_registers;
    use burn::tensor::DType;

    #[test]
    fn small_layers_are_decoded_in_one_launch() {
        let cube = SingleCube { lanes: 32, splits: 8, tokens: 1 };
        // 16 cubes, 4 for each output block of 48 rows.
        let small = problem([1, 4, 4, 48, 48, 48]);
        assert_eq!(plan(small, DEVICE), Plan::One { cube, passes: 2 });
        for large in [[1, 4, 4, 192, 192, 96], [1, 16, 16, 256, 256, 1024]] {
            assert_eq!(plan(problem(large), DEVICE), Plan::Two, "{large:?}");
        }
    }

    #[test]
    fn every_token_and_lane_has_a_unit() {
        for limits in [DEVICE, Limits { processor: true, ..DEVICE }] {
            for tokens in 1..=most_tokens(limits) {
                let cube = single_cube(tokens, limits);
                let room = cube.splits.min(cube.lanes);
                assert!(cube.tokens >= tokens && cube.tokens <= room, "{cube:?}");
            }
        }
    }

    #[test]
    fn half_precision_is_decoded_where_shared_memory_is_small() {
        let small = Limits { shared_memory: 32 * 1024, ..DEVICE };
        for sizes in [[1, 4, 4, 1024, 1024, 1008], [1, 4, 4, 192, 192, 96], [8, 16, 16, 256, 256, 992]] {
            let half = Problem { dtype: DType::BF16, ..problem(sizes) };
            let (units, bytes) = needs(half, small);
            assert!(units <= small.units && bytes <= small.shared_memory, "{sizes:?}: {units}, {bytes}");
        }
    }

    #[test]
    fn two_launches_have_a_unit_for_every_sum_and_row() {
        let small = Limits { shared_memory: 32 * 1024, ..DEVICE };
        let narrow = Limits { units: 256, shared_memory: 16 * 1024, ..DEVICE };
        for limits in [DEVICE, small, narrow, Limits { processor: true, ..DEVICE }] {
            for (tokens, vector) in (1..=most_tokens(limits)).flat_map(|tokens| [1, 2, 4, 8].map(|v| (tokens, v))) {
                for (b2, r) in [(1, 8), (3, 304), (4, 1016), (16, 1488), (24, 1024)] {
                    let problem = problem([tokens, 4, b2, 64, 64, r]);
                    let couple = couple_cube(problem, vector, limits);
                    // `add_up` relies on it.
                    assert!(couple.splits.is_multiple_of(couple.groups) && couple.groups <= b2, "{couple:?}");
                    assert!(couple.groups * couple.cols() <= couple.units(), "{couple:?}");
                    assert!(couple.units() <= limits.units && couple.tokens >= tokens, "{couple:?}");
                    assert!(fits_registers(couple.tokens * couple.vector, 4), "{couple:?}");
                    assert!(couple.shared() * 4 <= limits.shared_memory, "{couple:?}");
                    let expand = expand_cube(problem, vector, limits);
                    assert!(expand.units() <= limits.units && expand.tokens >= tokens, "{expand:?}");
                }
            }
        }
    }
}
