//! Which weights of a row are tied: rotations and signs, by a hash of small integers.
//!
//! The hash is part of the layer's function. It is therefore a few numbers that are saved with the weights, evaluated
//! alike on the host and in every kernel, and never a table drawn from some generator that a later version may change.

/// The rotations and signs that tie the weights of an SS1 matrix.
///
/// The input consists of blocks of `block_k` features, and `reduction` neighbouring blocks form a group. Each output row
/// stores `block_k` weights a group; block `j` of the group reads them rotated by `shift` and multiplied by `sign`, which
/// `block_n` neighbouring rows share:
///
/// ```text
/// W[o, (g c + j) K + p] = sign(o / N, g, j) · Z[o, g K + (p − shift(o / N, g, j)) mod K]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fold {
    /// Features of the input, `n`.
    pub d_input: usize,
    /// Blocks that share their weights, `c`.
    pub reduction: usize,
    /// Features of a block, `K`.
    pub block_k: usize,
    /// Output rows that share their rotations and signs, `N`.
    pub block_n: usize,
    /// Where the rotations and signs come from.
    pub rotations: Rotations,
}

/// The hash behind a [`Fold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotations {
    /// `shift = j · step mod K` for all groups and rows, without signs.
    Arithmetic {
        /// Positions between the rotations of neighbouring blocks.
        step: u32,
    },
    /// Drawn for every group, block and block of rows.
    Drawn {
        /// What distinguishes one draw from another.
        seed: u32,
        /// Whether signs are drawn as well.
        signs: bool,
    },
}

impl Fold {
    /// # Panics
    ///
    /// If a size is zero, or a group has more features than the 32-bit indices of kernels reach.
    pub(crate) fn check(&self) {
        let Self { d_input, reduction, block_k, block_n, .. } = *self;
        assert!(reduction > 0 && block_k > 0 && block_n > 0, "ss1: no size of {self:?} may be zero");
        let padded = reduction.checked_mul(block_k).and_then(|group| d_input.div_ceil(group).max(1).checked_mul(group));
        let indexed = padded.is_some_and(|padded| u32::try_from(padded).is_ok());
        assert!(indexed, "ss1: groups of {reduction} blocks of {block_k} features are more than kernels can index");
    }

    /// Groups of blocks; the last may be partly empty.
    pub fn groups(&self) -> usize {
        self.d_input.div_ceil(self.block_k).div_ceil(self.reduction)
    }

    /// Weights stored for each output row, `⌈⌈n / K⌉ / c⌉ K`.
    pub fn width(&self) -> usize {
        self.groups() * self.block_k
    }

    /// Blocks of rows among `d_output`, each with its own rotations.
    pub fn output_blocks(&self, d_output: usize) -> usize {
        match self.rotations {
            Rotations::Arithmetic { .. } => 1,
            Rotations::Drawn { .. } => d_output.div_ceil(self.block_n),
        }
    }

    /// The rows of output block `output_block`, among `d_output`.
    pub fn output_rows(&self, d_output: usize, output_block: usize) -> std::ops::Range<usize> {
        match self.output_blocks(d_output) {
            1 => 0..d_output,
            _ => output_block * self.block_n..d_output.min((output_block + 1) * self.block_n),
        }
    }

    /// The rotation of block `j` of `group` for output block `output_block`, below `K`, and whether its sign is negative.
    pub fn rotation(&self, output_block: usize, group: usize, j: usize) -> (usize, bool) {
        match self.rotations {
            // Reduced first, so that the product is below the features of a group: kernels index with 32 bits.
            Rotations::Arithmetic { step } => ((j * (step as usize % self.block_k)) % self.block_k, false),
            Rotations::Drawn { seed, signs } => {
                let hash = draw(seed, output_block as u32, (group * self.reduction + j) as u32);
                ((hash & 0x7fff_ffff) as usize % self.block_k, signs && hash >> 31 == 1)
            }
        }
    }

    /// For every input feature the stored weight it is multiplied by, and whether negatively.
    pub fn sources(&self, output_block: usize) -> Vec<(usize, bool)> {
        let k = self.block_k;
        (0..self.d_input)
            .map(|feature| {
                let (block, position) = (feature / k, feature % k);
                let (group, j) = (block / self.reduction, block % self.reduction);
                let (shift, negative) = self.rotation(output_block, group, j);
                (group * k + (position + k - shift) % k, negative)
            })
            .collect()
    }
}

/// A hash of three numbers, by two rounds of the finaliser of MurmurHash3 (Appleby, public domain).
pub(super) fn draw(seed: u32, output_block: u32, block: u32) -> u32 {
    let inner = finalise(block.wrapping_add(1).wrapping_add(output_block.wrapping_mul(0x9e37_79b9)));
    finalise(inner ^ seed)
}

fn finalise(hash: u32) -> u32 {
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(block_k: usize) -> Fold {
        let rotations = Rotations::Drawn { seed: 7, signs: true };
        Fold { d_input: 96, reduction: 4, block_k, block_n: 8, rotations }
    }

    #[test]
    fn the_last_group_may_be_partly_empty() {
        let fold = Fold { d_input: 40, reduction: 2, block_k: 16, ..drawn(16) };
        assert_eq!((fold.groups(), fold.width()), (2, 32));
    }

    #[test]
    fn each_block_uses_each_weight_of_its_group_once() {
        let fold = drawn(12);
        let sources = fold.sources(3);
        for (block, features) in sources.chunks(12).enumerate() {
            let mut used: Vec<usize> = features.iter().map(|(source, _)| *source).collect();
            used.sort();
            let first = block / 4 * 12;
            assert_eq!(used, (first..first + 12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn drawn_rotations_cover_all_positions_and_both_signs_evenly() {
        let fold = drawn(16);
        let draws: Vec<_> = (0..64).flat_map(|n| (0..8).map(move |g| (n, g))).collect();
        let draws: Vec<_> = draws.iter().flat_map(|(n, g)| (0..4).map(|j| fold.rotation(*n, *g, j))).collect();
        let negative = draws.iter().filter(|(_, negative)| *negative).count();
        assert!((negative as f64 / draws.len() as f64 - 0.5).abs() < 0.05, "{negative} of {}", draws.len());
        for shift in 0..16 {
            let count = draws.iter().filter(|(drawn, _)| *drawn == shift).count();
            assert!((80..180).contains(&count), "{shift}: {count} of {}", draws.len());
        }
    }

    #[test]
    fn the_hash_is_pinned() {
        // Saved layers depend on these values.
        assert_eq!([draw(0, 0, 0), draw(1, 2, 3), draw(u32::MAX, 9, 31)], [0x2fef_5c8f, 0x00c0_7fc3, 0x8293_408b]);
    }
}
