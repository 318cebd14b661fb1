//! Which path computes a product, and how the kernels are cut to the problem and the device.
//!
//! What is rejected, and why:
//!
//! - whole paths, for the reasons in [`BlastRejection`];
//! - vectors that do not divide the rank, or a stride of `s`: a vector load would cross into the next block;
//! - groups of output blocks that do not divide `b1` in the coupling: the last group would need its own kernel, and the
//!   saving (loading `z_j` once per group) is small for the few blocks concerned;
//! - chunks of tokens so short that the partial sums written and read again would outweigh the products;
//! - more values in one array of a unit than [`fits_registers`] allows.

use super::decode::{CoupleCube, DecodeCube, ExpandCube};
use crate::blast::{BlastRejection, BlastStrategy, Sizes};
use crate::cube::{Limits, PROCESSOR_UNITS, accumulator, fits_registers};
use burn::tensor::DType;

/// One product, as far as the choice of its path goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    pub(super) sizes: Sizes,
    pub(super) dtype: DType,
    /// Whether the backward pass will want `z`.
    pub(super) keeps_projections: bool,
}

/// A way through the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Staged,
    Portable,
    Fused,
    Decode,
}

/// The path that `strategy` means for `problem`; what is rejected goes stage by stage.
///
/// Without measurements (see `super::tune`), a GPU decodes up to [`DECODE_TOKENS`] tokens by the kernels for that: they
/// read every weight once and are one or two launches instead of four. Everything else is staged, since Burn's matmul has
/// the tensor cores.
pub(super) fn path(strategy: BlastStrategy, problem: Problem, limits: Limits) -> Path {
    let unless_rejected = |strategy, path| match rejection(strategy, problem, limits) {
        None => path,
        Some(_) => Path::Staged,
    };
    match strategy {
        BlastStrategy::Portable => Path::Portable,
        BlastStrategy::Fused => unless_rejected(BlastStrategy::Fused, Path::Fused),
        BlastStrategy::Decode => unless_rejected(BlastStrategy::Decode, Path::Decode),
        BlastStrategy::Auto | BlastStrategy::Tuned if limits.gpu => {
            unless_rejected(BlastStrategy::Decode, Path::Decode)
        }
        _ => Path::Staged,
    }
}

/// Why `strategy` cannot compute `problem` within `limits`, if it cannot.
pub(super) fn rejection(strategy: BlastStrategy, problem: Problem, limits: Limits) -> Option<BlastRejection> {
    let sizes = problem.sizes;
    let (units, bytes) = match strategy {
        BlastStrategy::Fused => {
            let (units_m, units_n) = fused_units(sizes.tokens, limits);
            let (rows, cols, _) = fused_registers(sizes.b1);
            (units_m * units_n, (units_m * rows + units_n * cols) * FUSED_DEPTH * accumulator(problem.dtype).size())
        }
        BlastStrategy::Decode => {
            let most = decode_tokens(limits);
            if sizes.tokens > most {
                return Some(BlastRejection::Tokens { tokens: sizes.tokens, most });
            }
            if !fits_registers(sizes.b1, accumulator(problem.dtype).size()) {
                return Some(BlastRejection::OutputBlocks { blocks: sizes.b1 });
            }
            if problem.keeps_projections {
                return Some(BlastRejection::KeepsProjections);
            }
            let one = decode_cube(sizes.tokens, limits);
            // Vectors as wide as they come ask for the most.
            let vector = (WIDEST_LOAD / problem.dtype.size()).max(1);
            let couple = couple_cube(sizes, vector, limits);
            let expand = expand_cube(sizes, vector, limits);
            let values = one.partials().max(couple.shared()).max(expand.shared());
            let units = one.units().max(couple.units()).max(expand.units());
            (units, values * accumulator(problem.dtype).size())
        }
        _ => return None,
    };
    if units > limits.units {
        return Some(BlastRejection::Units { needed: units, available: limits.units });
    }
    if bytes > limits.shared_memory {
        return Some(BlastRejection::SharedMemory { needed: bytes, available: limits.shared_memory });
    }
    None
}

/// Terms of the projection that the fused kernel has in shared memory at a time.
pub(super) const FUSED_DEPTH: usize = 16;

/// Units of the fused kernel along the tokens and along the rank.
pub(super) fn fused_units(tokens: usize, limits: Limits) -> (usize, usize) {
    match tokens {
        _ if limits.processor => (1, PROCESSOR_UNITS),
        ..=16 => (4, 32),
        _ => (16, 16),
    }
}

/// Tokens and ranks that a unit of the fused kernel computes, and the output blocks it does so for.
///
/// With more output blocks than one group holds, the projection is computed again for each group.
pub(super) fn fused_registers(out_blocks: usize) -> (usize, usize, usize) {
    match out_blocks {
        ..=4 => (4, 4, out_blocks),
        5..=8 => (4, 2, out_blocks),
        9..=16 => (2, 2, out_blocks),
        _ => (2, 2, 16),
    }
}

/// Tokens that are decoded at most.
const DECODE_TOKENS: usize = 8;

/// Tokens that a decoding cube has units for: along the rank in the first half, along the output rows in the second.
fn decode_tokens(limits: Limits) -> usize {
    if limits.processor { PROCESSOR_UNITS } else { DECODE_TOKENS }
}

/// Units of a decoding cube.
const DECODE_UNITS: usize = 256;
/// Units along the rank, so that a plane reads whole lines of memory.
const LANES: usize = 32;
/// Bytes that a unit loads at a time at most.
const WIDEST_LOAD: usize = 16;
/// Ranks of a cube of the first launch: one or two sectors of memory.
const SLICE: usize = 16;
/// Slices that a device should have to work on at least; with fewer, they are half as wide.
const TARGET_SLICES: usize = 48;
/// The largest `V` that every cube may read for itself. Reading it from a second-level cache takes about as long as the
/// launch that it saves.
const ONE_LAUNCH_BYTES: usize = 512 * 1024;
/// Cubes of a single launch at most: each reads all of `V`.
const ONE_LAUNCH_CUBES: usize = 16;

/// How few tokens are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodePlan {
    /// Every cube computes the `t_i` of its output block, then `passes · splits` rows.
    One { cube: DecodeCube, passes: usize },
    /// All `t_i` first, then the output rows.
    Two,
}

/// One launch where `V` is small and a cube has room for `t_i`, two otherwise.
pub(super) fn decode_plan(problem: Problem, limits: Limits) -> DecodePlan {
    let Sizes { tokens, b1, b2, p, q, r } = problem.sizes;
    let cube = decode_cube(tokens, limits);
    let shared = (cube.partials() + cube.tokens * r) * accumulator(problem.dtype).size();
    if b2 * q * r * problem.dtype.size() <= ONE_LAUNCH_BYTES && shared <= limits.shared_memory {
        let per_block = (ONE_LAUNCH_CUBES / b1).max(1);
        return DecodePlan::One { cube, passes: p.div_ceil(per_block).div_ceil(cube.splits) };
    }
    DecodePlan::Two
}

/// A cube of a single launch, with room for `tokens`.
fn decode_cube(tokens: usize, limits: Limits) -> DecodeCube {
    let tokens = tokens.next_power_of_two();
    let (lanes, splits) = match limits.processor {
        true => (PROCESSOR_UNITS, PROCESSOR_UNITS),
        false => (LANES, DECODE_UNITS / LANES),
    };
    DecodeCube { lanes, splits, tokens }
}

/// A cube of the first of two launches, which reads `v` in vectors of `vector` elements.
///
/// Few slices of the rank, so that each row is read by whole sectors, and therefore many units in each: as many as their
/// sums leave registers for.
pub(super) fn couple_cube(sizes: Sizes, vector: usize, limits: Limits) -> CoupleCube {
    let Sizes { tokens, b2, r, .. } = sizes;
    let tokens = tokens.next_power_of_two();
    if limits.processor {
        let (lanes, splits) = (PROCESSOR_UNITS, PROCESSOR_UNITS);
        return CoupleCube { lanes, vector: 1, splits, groups: 1, in_blocks: b2, tokens, ahead: 1 };
    }
    let slice = if r / SLICE < TARGET_SLICES { SLICE / 2 } else { SLICE };
    let lanes = (slice / vector).max(1);
    let units = (2048 / tokens).clamp(256, 1024).min(limits.units);
    let splits = 1 << (units / lanes).ilog2();
    let groups = b2.min(splits / vector).max(1);
    CoupleCube { lanes, vector, splits, groups: 1 << groups.ilog2(), in_blocks: b2, tokens, ahead: 4 }
}

/// A cube of the second of two launches, which reads `u` in vectors of `vector` elements.
pub(super) fn expand_cube(sizes: Sizes, vector: usize, limits: Limits) -> ExpandCube {
    let tokens = sizes.tokens.next_power_of_two();
    if limits.processor {
        let (lanes, planes) = (PROCESSOR_UNITS, PROCESSOR_UNITS);
        return ExpandCube { lanes, vector: 1, planes, rows: 1, tokens, ahead: 1 };
    }
    let rows = if tokens <= 4 { 2 } else { 1 };
    ExpandCube { lanes: LANES, vector, planes: DECODE_UNITS / LANES, rows, tokens, ahead: 2 }
}

/// Input blocks that a unit takes through the backward coupling at a time, if the registers hold even one.
pub(super) fn input_group(out_blocks: usize, in_blocks: usize, bytes: usize) -> Option<usize> {
    (1..=in_blocks).rev().find(|group| fits_registers(out_blocks * group, bytes))
}

/// Tokens of one unit in the backward coupling: so many that its partial sums, written and read again, are at most an
/// eighth of what it moves.
pub(super) fn backward_chunk(tokens: usize, out_blocks: usize, in_blocks: usize) -> usize {
    let enough = 16 * out_blocks * in_blocks / (out_blocks + 2 * in_blocks).max(1);
    enough.clamp(MIN_CHUNK / 4, 4 * MIN_CHUNK).min(tokens.max(1))
}

/// Output blocks that share a load of `z`; more would cost registers without saving much.
const MAX_GROUP: usize = 4;
/// Units a device should have at least to hide its memory latency.
const TARGET_UNITS: usize = 1 << 16;
/// Tokens summed by one unit at least.
const MIN_CHUNK: usize = 64;

/// Elements of a vector at most where several tokens are coupled at once: registers hold fewer of wider ones.
pub(super) const COUPLING_VECTOR: usize = 4;
/// Tokens that share a load of `s` at most.
const MAX_AT_ONCE: usize = 4;

/// Tokens that a unit couples at once: as many as the registers hold, `per_token` values each, while the device has enough
/// units of `units_per_token` for every token.
pub(super) fn tokens_at_once(tokens: usize, units_per_token: usize, per_token: usize, bytes: usize) -> usize {
    let fits = |at_once: &usize| {
        fits_registers(per_token * at_once, bytes) && tokens.div_ceil(*at_once) * units_per_token >= TARGET_UNITS
    };
    [MAX_AT_ONCE, MAX_AT_ONCE / 2].into_iter().find(fits).unwrap_or(1)
}

/// The largest group of neighbouring output blocks, at most [`MAX_GROUP`], that divides their number.
pub(super) fn output_group(out_blocks: usize) -> usize {
    (1..=MAX_GROUP.min(out_blocks)).rev().find(|group| out_blocks.is_multiple_of(*group)).unwrap_or(1)
}

/// The widest vector among those the device likes that divides every one of `extents` (the rank and the strides of `s`).
pub(super) fn vector_size(device_sizes: impl Iterator<Item = usize>, extents: &[usize]) -> usize {
    device_sizes.filter(|size| extents.iter().all(|extent| extent.is_multiple_of(*size))).max().unwrap_or(1)
}

/// Tokens that one unit sums, so that `units_per_chunk` units a chunk keep the device busy.
pub(super) fn token_chunk(tokens: usize, units_per_chunk: usize) -> usize {
    let chunks = TARGET_UNITS.div_ceil(units_per_chunk.max(1)).max(1);
    tokens.div_ceil(chunks).max(MIN_CHUNK).min(tokens.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Limits = Limits { units: 1024, shared_memory: 48 * 1024, gpu: true, processor: false };

    fn problem([tokens, b1, b2, p, q, r]: [usize; 6]) -> Problem {
        let sizes = Sizes { tokens, b1, b2, p, q, r };
        Problem { sizes, dtype: DType::F32, keeps_projections: false }
    }

    #[test]
    fn what_cannot_run_says_why() {
        let large = problem([512, 4, 4, 192, 192, 288]);
        let few = problem([1, 16, 16, 256, 256, 1024]);
        assert_eq!(rejection(BlastStrategy::Fused, large, DEVICE), None);
        assert_eq!(rejection(BlastStrategy::Decode, few, DEVICE), None);
        assert_eq!(
            rejection(BlastStrategy::Decode, large, DEVICE),
            Some(BlastRejection::Tokens { tokens: 512, most: DECODE_TOKENS })
        );
        let training = Problem { keeps_projections: true, ..few };
        assert_eq!(rejection(BlastStrategy::Decode, training, DEVICE), Some(BlastRejection::KeepsProjections));
        let blocks = problem([1, 65, 1, 1, 1, 1]);
        assert_eq!(rejection(BlastStrategy::Decode, blocks, DEVICE), Some(BlastRejection::OutputBlocks { blocks: 65 }));
        let processor = Limits { processor: true, ..DEVICE };
        assert_eq!(rejection(BlastStrategy::Fused, large, processor), None);
        let three = problem([3, 16, 16, 256, 256, 1024]);
        assert_eq!(
            rejection(BlastStrategy::Decode, three, processor),
            Some(BlastRejection::Tokens { tokens: 3, most: PROCESSOR_UNITS })
        );
        let narrow = Limits { units: 128, ..DEVICE };
        assert_eq!(
            rejection(BlastStrategy::Fused, large, narrow),
            Some(BlastRejection::Units { needed: 256, available: 128 })
        );
        let small = Limits { shared_memory: 4096, ..DEVICE };
        assert_eq!(
            rejection(BlastStrategy::Fused, large, small),
            Some(BlastRejection::SharedMemory { needed: 8192, available: 4096 })
        );
    }

    #[test]
    fn what_is_rejected_goes_stage_by_stage() {
        let large = problem([512, 4, 4, 192, 192, 288]);
        assert_eq!(path(BlastStrategy::Decode, large, DEVICE), Path::Staged);
        assert_eq!(path(BlastStrategy::Fused, large, DEVICE), Path::Fused);
        assert_eq!(path(BlastStrategy::Auto, large, DEVICE), Path::Staged);
    }

    #[test]
    fn gpus_decode_few_tokens_and_processors_do_not() {
        let few = problem([8, 4, 4, 192, 192, 288]);
        assert_eq!(path(BlastStrategy::Auto, few, DEVICE), Path::Decode);
        assert_eq!(path(BlastStrategy::Auto, few, Limits { gpu: false, ..DEVICE }), Path::Staged);
        assert_eq!(path(BlastStrategy::Decode, few, Limits { gpu: false, ..DEVICE }), Path::Decode);
    }

    #[test]
    fn small_layers_are_decoded_in_one_launch() {
        let cube = DecodeCube { lanes: 32, splits: 8, tokens: 1 };
        // 16 cubes, 4 for each output block of 192 rows.
        let small = problem([1, 4, 4, 192, 192, 96]);
        assert_eq!(decode_plan(small, DEVICE), DecodePlan::One { cube, passes: 6 });
        let large = problem([1, 16, 16, 256, 256, 1024]);
        assert_eq!(decode_plan(large, DEVICE), DecodePlan::Two);
    }

    #[test]
    fn every_token_and_lane_has_a_unit() {
        for limits in [DEVICE, Limits { processor: true, ..DEVICE }] {
            for tokens in 1..=decode_tokens(limits) {
                let cube = decode_cube(tokens, limits);
                let room = cube.splits.min(cube.lanes);
                assert!(cube.tokens >= tokens && cube.tokens <= room, "{cube:?}");
            }
        }
    }

    #[test]
    fn two_launches_have_a_unit_for_every_sum_and_row() {
        let narrow = Limits { units: 256, shared_memory: 16 * 1024, ..DEVICE };
        for limits in [DEVICE, narrow, Limits { processor: true, ..DEVICE }] {
            for (tokens, vector) in (1..=decode_tokens(limits)).flat_map(|tokens| [1, 2, 4, 8].map(|v| (tokens, v))) {
                for (b2, r) in [(1, 8), (3, 304), (4, 1016), (16, 1488), (40, 1024)] {
                    let sizes = Sizes { tokens, b1: 4, b2, p: 64, q: 64, r };
                    let couple = couple_cube(sizes, vector, limits);
                    // What `add_up` counts on.
                    assert!(couple.splits.is_multiple_of(couple.groups) && couple.groups <= b2, "{couple:?}");
                    assert!(couple.groups * couple.cols() <= couple.units(), "{couple:?}");
                    assert!(couple.units() <= limits.units && couple.tokens >= tokens, "{couple:?}");
                    assert!(fits_registers(couple.tokens * couple.vector, 4), "{couple:?}");
                    let expand = expand_cube(sizes, vector, limits);
                    assert!(expand.units() <= limits.units && expand.tokens >= tokens, "{expand:?}");
                }
            }
        }
    }

    #[test]
    fn fused_units_hold_every_output_block_in_few_registers() {
        for out_blocks in 1..40 {
            let (rows, cols, group) = fused_registers(out_blocks);
            assert!(group <= out_blocks && fits_registers(rows * cols * group, 4), "{out_blocks}");
        }
    }

    #[test]
    fn backward_groups_fit_the_registers() {
        assert_eq!(input_group(4, 4, 4), Some(4));
        assert_eq!(input_group(16, 16, 4), Some(4));
        assert_eq!(input_group(64, 3, 4), Some(1));
        assert_eq!(input_group(65, 3, 4), None);
        assert_eq!(backward_chunk(4096, 4, 4), 21);
        assert_eq!(backward_chunk(4096, 16, 16), 85);
        assert_eq!(backward_chunk(5, 16, 16), 5);
    }

    #[test]
    fn groups_divide_the_output_blocks() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 9, 16].map(output_group), [1, 2, 3, 4, 1, 3, 1, 3, 4]);
    }

    #[test]
    fn tokens_are_coupled_together_where_there_are_enough_of_them() {
        assert_eq!(tokens_at_once(4096, 252, 16, 4), 4);
        assert_eq!(tokens_at_once(512, 252, 16, 4), 1);
        assert_eq!(tokens_at_once(4096, 252, 32, 4), 2);
        assert_eq!(tokens_at_once(4096, 504, 16, 8), 2);
        assert_eq!(tokens_at_once(1, 1, 64, 8), 1);
    }

    #[test]
    fn vectors_divide_every_extent() {
        assert_eq!(vector_size([1, 2, 4, 8].into_iter(), &[24, 48]), 8);
        assert_eq!(vector_size([1, 2, 4, 8].into_iter(), &[24, 12]), 4);
        assert_eq!(vector_size([1, 2, 4].into_iter(), &[7]), 1);
    }

    #[test]
    fn chunks_are_long_enough_to_pay_and_short_enough_to_fill_the_device() {
        assert_eq!(token_chunk(5, 10), 5);
        assert_eq!(token_chunk(4096, 10), MIN_CHUNK);
        assert_eq!(token_chunk(4096, TARGET_UNITS), 4096);
    }
}
