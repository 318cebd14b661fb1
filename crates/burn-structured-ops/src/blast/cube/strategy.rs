//! How the kernels are cut to the problem and the device.
//!
//! What is rejected, and why:
//!
//! - vectors that do not divide the rank, or a stride of `s`: a vector load would cross into the next block;
//! - groups of output blocks that do not divide `b1`: the last group would need its own kernel, and the saving (loading
//!   `z_j` once per group) is small for the few blocks concerned;
//! - chunks of tokens shorter than [`MIN_CHUNK`]: the partial sums written and read again would outweigh the products.

/// Output blocks that share a load of `z`; more would cost registers without saving much.
const MAX_GROUP: usize = 4;
/// Units a device should have at least to hide its memory latency.
const TARGET_UNITS: usize = 1 << 16;
/// Tokens summed by one unit at least.
const MIN_CHUNK: usize = 64;

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

    #[test]
    fn groups_divide_the_output_blocks() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 9, 16].map(output_group), [1, 2, 3, 4, 1, 3, 1, 3, 4]);
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
