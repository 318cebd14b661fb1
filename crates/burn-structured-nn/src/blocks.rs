//! Into how many blocks a matrix is cut.

use crate::StructureError;
use burn::config::Config;

/// The block grid of a structured matrix `[d_output, d_input]`.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// A grid chosen by the library: on each side the largest count up to 4 that divides it and leaves blocks of 8 or more
    /// (BLAST, Monarch), or the divisor nearest to the square root (block tensor-train, Kronecker).
    ///
    /// More blocks are more expressive at the same number of parameters, and slower: the coupling grows with their
    /// number.
    Auto,
    /// The same number of blocks on both sides.
    Square(usize),
    /// Blocks along the output and along the input.
    Grid {
        /// `b1`: row blocks, along `d_output`.
        output: usize,
        /// `b2`: column blocks, along `d_input`.
        input: usize,
    },
}

impl Blocks {
    const AUTO_BLOCKS: usize = 4;
    const AUTO_BLOCK_SIZE: usize = 8;

    /// `(b1, b2)` for a matrix `[d_output, d_input]`.
    ///
    /// # Errors
    ///
    /// If a dimension does not split into that many equal blocks.
    pub fn resolve(self, d_input: usize, d_output: usize) -> Result<(usize, usize), StructureError> {
        self.resolve_with(d_input, d_output, Self::auto)
    }

    /// [`resolve`](Self::resolve) where `Auto` means blocks about as many as they are long, for products of factors.
    pub(crate) fn resolve_square_root(self, d_input: usize, d_output: usize) -> Result<(usize, usize), StructureError> {
        self.resolve_with(d_input, d_output, |size| {
            let root = size.isqrt();
            divisors(size).into_iter().min_by_key(|count| count.abs_diff(root)).unwrap_or(1)
        })
    }

    fn resolve_with(
        self,
        d_input: usize,
        d_output: usize,
        auto: impl Fn(usize) -> usize,
    ) -> Result<(usize, usize), StructureError> {
        let (output, input) = match self {
            Self::Auto => (auto(d_output), auto(d_input)),
            Self::Square(blocks) => (blocks, blocks),
            Self::Grid { output, input } => (output, input),
        };
        for (name, size, blocks) in [("d_output", d_output, output), ("d_input", d_input, input)] {
            if blocks == 0 || !size.is_multiple_of(blocks) {
                // What is offered works on both sides where both have the same number.
                let shared =
                    if matches!(self, Self::Square(_)) { greatest_common_divisor(d_output, d_input) } else { size };
                let nearest = nearest_divisors(shared, blocks);
                return Err(StructureError::Indivisible { name, size, blocks, nearest });
            }
        }
        Ok((output, input))
    }

    fn auto(size: usize) -> usize {
        (1..=Self::AUTO_BLOCKS)
            .rev()
            .find(|blocks| size.is_multiple_of(*blocks) && size / blocks >= Self::AUTO_BLOCK_SIZE)
            .unwrap_or(1)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// All divisors of `size`, ascending, in as many steps as its square root.
pub(crate) fn divisors(size: usize) -> Vec<usize> {
    let mut divisors: Vec<usize> = (1..=size.isqrt()).filter(|count| size.is_multiple_of(*count)).collect();
    let above = divisors.iter().rev().map(|count| size / count).filter(|count| *count > size.isqrt());
    divisors.extend(above.collect::<Vec<_>>());
    divisors
}

/// The divisors of `size` just below and just above `blocks`.
fn nearest_divisors(size: usize, blocks: usize) -> Vec<usize> {
    let divisors = divisors(size);
    let below = divisors.iter().rev().find(|count| **count <= blocks);
    let above = divisors.iter().find(|count| **count > blocks);
    below.into_iter().chain(above).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indivisible_dimension_lists_the_nearest_counts_that_work() {
        let error = Blocks::Square(5).resolve(768, 3072).unwrap_err();
        assert_eq!(
            error.to_string(),
            "d_output = 3072 cannot be cut into 5 equal blocks; the nearest block counts that work are 4 and 6"
        );
        // 384 has 6 blocks, 128 has not.
        let error = Blocks::Square(5).resolve(128, 384).unwrap_err();
        assert!(error.to_string().ends_with("that work are 4 and 8"), "{error}");
        let error = Blocks::Grid { output: 4, input: 9 }.resolve(8, 16).unwrap_err();
        assert!(error.to_string().starts_with("d_input = 8 cannot be cut into 9"), "{error}");
        assert!(error.to_string().ends_with("that work are 8"), "{error}");
    }

    #[test]
    fn extreme_block_counts_are_errors() {
        for blocks in [usize::MAX, 1_000_000_000_000] {
            assert!(Blocks::Square(blocks).resolve(768, 3072).is_err());
        }
        // A search through all counts up to the size would take minutes.
        assert!(Blocks::Grid { output: 1, input: 1 << 39 }.resolve((1 << 40) + 1, 1).is_err());
        assert_eq!(divisors(36), [1, 2, 3, 4, 6, 9, 12, 18, 36]);
        assert_eq!(divisors(12), [1, 2, 3, 4, 6, 12]);
    }

    #[test]
    fn zero_blocks_are_an_error() {
        assert!(Blocks::Square(0).resolve(4, 4).is_err());
    }

    #[test]
    fn square_roots_are_divisors_near_the_root() {
        assert_eq!(Blocks::Auto.resolve_square_root(768, 3072), Ok((48, 24)));
        assert_eq!(Blocks::Auto.resolve_square_root(7, 36), Ok((6, 1)));
        assert!(Blocks::Square(5).resolve_square_root(768, 3072).is_err());
    }

    #[test]
    fn auto_always_divides() {
        for size in 1..200 {
            assert_eq!(size % Blocks::auto(size), 0);
        }
        assert_eq!(Blocks::Auto.resolve(768, 126), Ok((3, 4)));
        assert_eq!(Blocks::Auto.resolve(7, 10), Ok((1, 1)));
    }
}
