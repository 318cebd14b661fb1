//! Which strategy computes a product, and the tile sizes of its kernels.
//!
//! What is not done, and why:
//!
//! - strategies, for the reasons in [`UnsupportedStrategy`];
//! - vectors that do not divide the rank, or a stride of `s`, `u` or `v`: a vector load would cross into the next block;
//! - groups of output blocks that do not divide `b1` in the coupling: the last group would need its own kernel, and the
//!   saving (loading `z_j` once per group) is small for the few blocks concerned;
//! - chunks of tokens so short that the partial sums written and read again would outweigh the products;
//! - more values in one array of a unit than [`fits_registers`] allows.

use super::decode;
use crate::blast::BlastCandidate::{Autotuned, TensorCore, TiledGemm};
use crate::blast::BlastStrategy::{Auto, Candidate, Decode, Fused};
use crate::blast::{BlastStrategy, Sizes, UnsupportedStrategy};
use crate::cube::gemm::tensor_core::{self, VECTOR};
use crate::cube::{Limits, PROCESSOR_UNITS, accumulator, fits_registers};
use burn::tensor::DType;

/// A product, as far as the choice of its strategy goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    pub(super) sizes: Sizes,
    pub(super) dtype: DType,
    /// Whether the backward pass needs `z`.
    pub(super) keeps_projections: bool,
}

/// A strategy that runs for the product at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Staged,
    TensorCore,
    TiledGemm,
    Fused,
    Decode,
}

/// The strategy that computes `problem` when `strategy` is chosen; an unsupported one becomes [`Resolved::Staged`].
///
/// `Auto` on a GPU is `Decode` for up to eight tokens: one or two launches instead of four, and every weight is read once. For
/// more tokens it is `TensorCore` in half precision, where the device and the sizes allow. Everything else is `Staged` unless
/// measured (`super::autotuned`), since Burn's matmul has tensor cores for more types.
pub(super) fn resolve(strategy: BlastStrategy, problem: Problem, limits: Limits) -> Resolved {
    let supported = |strategy| unsupported(strategy, problem, limits).is_none();
    match strategy {
        Candidate(TiledGemm) => Resolved::TiledGemm,
        Candidate(TensorCore) if supported(strategy) => Resolved::TensorCore,
        Fused if supported(strategy) => Resolved::Fused,
        Decode if supported(strategy) => Resolved::Decode,
        Auto | Candidate(Autotuned) if limits.gpu && supported(Decode) => Resolved::Decode,
        Auto | Candidate(Autotuned) if supported(Candidate(TensorCore)) => Resolved::TensorCore,
        _ => Resolved::Staged,
    }
}

/// Why `strategy` cannot compute `problem` within `limits`, if it cannot.
pub(super) fn unsupported(strategy: BlastStrategy, problem: Problem, limits: Limits) -> Option<UnsupportedStrategy> {
    let sizes = problem.sizes;
    let (units, bytes) = match strategy {
        Candidate(TensorCore) => {
            if !limits.tensor_cores.support(problem.dtype) {
                return Some(UnsupportedStrategy::TensorCores { dtype: problem.dtype });
            }
            let odd = [sizes.p, sizes.q, sizes.r].into_iter().find(|size| !size.is_multiple_of(VECTOR));
            if let Some(size) = odd {
                return Some(UnsupportedStrategy::Alignment { size, multiple: VECTOR });
            }
            tensor_core::needs()
        }
        Fused => {
            let (units_m, units_n) = fused_units(sizes.tokens, limits);
            let (rows, cols, _) = fused_registers(sizes.b1);
            (units_m * units_n, (units_m * rows + units_n * cols) * FUSED_DEPTH * accumulator(problem.dtype).size())
        }
        Decode => {
            let most = decode::most_tokens(limits);
            if sizes.tokens > most {
                return Some(UnsupportedStrategy::Tokens { tokens: sizes.tokens, most });
            }
            if problem.keeps_projections {
                return Some(UnsupportedStrategy::KeepsProjections);
            }
            decode::needs(problem, limits)
        }
        _ => return None,
    };
    if units > limits.units {
        return Some(UnsupportedStrategy::Units { needed: units, available: limits.units });
    }
    if bytes > limits.shared_memory {
        return Some(UnsupportedStrategy::SharedMemory { needed: bytes, available: limits.shared_memory });
    }
    None
}

/// Depth of a step of the fused kernel through shared memory.
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

/// The widest of `device_sizes` that divides every one of `extents` (the rank and the strides of what is read so).
pub(super) fn vector_size(device_sizes: impl Iterator<Item = usize>, extents: &[usize]) -> usize {
    device_sizes.filter(|size| extents.iter().all(|extent| extent.is_multiple_of(*size))).max().unwrap_or(1)
}

/// Tokens that one unit sums, so that `units_per_chunk` units a chunk keep the device busy.
pub(super) fn token_chunk(tokens: usize, units_per_chunk: usize) -> usize {
    let chunks = TARGET_UNITS.div_ceil(units_per_chunk.max(1)).max(1);
    tokens.div_ceil(chunks).max(MIN_CHUNK).min(tokens.max(1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cube::TensorCores;

    const TENSOR_CORES: TensorCores = TensorCores { f16: true, bf16: true };

    pub(in crate::blast::cube) const DEVICE: Limits =
        Limits { units: 1024, shared_memory: 48 * 1024, gpu: true, processor: false, tensor_cores: TENSOR_CORES };

    pub(in crate::blast::cube) fn problem([tokens, b1, b2, p, q, r]: [usize; 6]) -> Problem {
        let sizes = Sizes { tokens, b1, b2, p, q, r };
        Problem { sizes, dtype: DType::F32, keeps_projections: false }
    }

    #[test]
    fn unsupported_says_why() {
        let large = problem([512, 4, 4, 192, 192, 288]);
        let few = problem([1, 16, 16, 256, 256, 1024]);
        assert_eq!(unsupported(Fused, large, DEVICE), None);
        assert_eq!(unsupported(Decode, few, DEVICE), None);
        assert_eq!(
            unsupported(Decode, large, DEVICE),
            Some(UnsupportedStrategy::Tokens { tokens: 512, most: decode::most_tokens(DEVICE) })
        );
        let training = Problem { keeps_projections: true, ..few };
        assert_eq!(unsupported(Decode, training, DEVICE), Some(UnsupportedStrategy::KeepsProjections));
        let processor = Limits { processor: true, ..DEVICE };
        assert_eq!(unsupported(Fused, large, processor), None);
        let three = problem([3, 16, 16, 256, 256, 1024]);
        assert_eq!(
            unsupported(Decode, three, processor),
            Some(UnsupportedStrategy::Tokens { tokens: 3, most: PROCESSOR_UNITS })
        );
        let narrow = Limits { units: 128, ..DEVICE };
        assert_eq!(unsupported(Fused, large, narrow), Some(UnsupportedStrategy::Units { needed: 256, available: 128 }));
        let small = Limits { shared_memory: 4096, ..DEVICE };
        assert_eq!(
            unsupported(Fused, large, small),
            Some(UnsupportedStrategy::SharedMemory { needed: 8192, available: 4096 })
        );
    }

    #[test]
    fn unsupported_strategies_are_staged() {
        let large = problem([512, 4, 4, 192, 192, 288]);
        assert_eq!(resolve(Decode, large, DEVICE), Resolved::Staged);
        assert_eq!(resolve(Fused, large, DEVICE), Resolved::Fused);
        assert_eq!(resolve(Auto, large, DEVICE), Resolved::Staged);
    }

    #[test]
    fn tensor_core_needs_half_precision_and_whole_vectors() {
        let half = |sizes| Problem { dtype: DType::BF16, ..problem(sizes) };
        let many = half([512, 4, 4, 192, 192, 288]);
        assert_eq!(resolve(Auto, many, DEVICE), Resolved::TensorCore);
        assert_eq!(resolve(BlastStrategy::Staged, many, DEVICE), Resolved::Staged);
        assert_eq!(resolve(Auto, Problem { keeps_projections: true, ..many }, DEVICE), Resolved::TensorCore);
        assert_eq!(resolve(Auto, half([8, 4, 4, 192, 192, 288]), DEVICE), Resolved::Decode);
        let single = problem([512, 4, 4, 192, 192, 288]);
        let why = |problem, limits| unsupported(Candidate(TensorCore), problem, limits);
        assert_eq!(why(single, DEVICE), Some(UnsupportedStrategy::TensorCores { dtype: DType::F32 }));
        let without = Limits { tensor_cores: TensorCores::default(), ..DEVICE };
        assert_eq!(why(many, without), Some(UnsupportedStrategy::TensorCores { dtype: DType::BF16 }));
        assert_eq!(resolve(Auto, many, without), Resolved::Staged);
        let small = Limits { shared_memory: 16 * 1024, ..DEVICE };
        assert!(matches!(why(many, small), Some(UnsupportedStrategy::SharedMemory { available: 16384, .. })));
        let odd = half([512, 4, 4, 192, 192, 284]);
        assert_eq!(why(odd, DEVICE), Some(UnsupportedStrategy::Alignment { size: 284, multiple: 8 }));
    }

    #[test]
    fn auto_decodes_few_tokens_on_gpus() {
        let few = problem([8, 4, 4, 192, 192, 288]);
        assert_eq!(resolve(Auto, few, DEVICE), Resolved::Decode);
        assert_eq!(resolve(Auto, few, Limits { gpu: false, ..DEVICE }), Resolved::Staged);
        assert_eq!(resolve(Decode, few, Limits { gpu: false, ..DEVICE }), Resolved::Decode);
    }

    #[test]
    fn fused_registers_fit() {
        for out_blocks in 1..40 {
            let (rows, cols, group) = fused_registers(out_blocks);
            assert!(group <= out_blocks && fits_registers(rows * cols * group, 4), "{out_blocks}");
        }
    }

    #[test]
    fn input_group_fits_registers() {
        assert_eq!(input_group(4, 4, 4), Some(4));
        assert_eq!(input_group(16, 16, 4), Some(4));
        assert_eq!(input_group(64, 3, 4), Some(1));
        assert_eq!(input_group(65, 3, 4), None);
        assert_eq!(backward_chunk(4096, 4, 4), 21);
        assert_eq!(backward_chunk(4096, 16, 16), 85);
        assert_eq!(backward_chunk(5, 16, 16), 5);
    }

    #[test]
    fn output_group_divides_the_blocks() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 9, 16].map(output_group), [1, 2, 3, 4, 1, 3, 1, 3, 4]);
    }

    #[test]
    fn tokens_at_once_needs_enough_units() {
        assert_eq!(tokens_at_once(4096, 252, 16, 4), 4);
        assert_eq!(tokens_at_once(512, 252, 16, 4), 1);
        assert_eq!(tokens_at_once(4096, 252, 32, 4), 2);
        assert_eq!(tokens_at_once(4096, 504, 16, 8), 2);
        assert_eq!(tokens_at_once(1, 1, 64, 8), 1);
    }

    #[test]
    fn vector_size_divides_every_extent() {
        assert_eq!(vector_size([1, 2, 4, 8].into_iter(), &[24, 48]), 8);
        assert_eq!(vector_size([1, 2, 4, 8].into_iter(), &[24, 12]), 4);
        assert_eq!(vector_size([1, 2, 4].into_iter(), &[7]), 1);
    }

    #[test]
    fn token_chunk_fills_the_device() {
        assert_eq!(token_chunk(5, 10), 5);
        assert_eq!(token_chunk(4096, 10), MIN_CHUNK);
        assert_eq!(token_chunk(4096, TARGET_UNITS), 4096);
    }
}
