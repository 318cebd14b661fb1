//! Tile sizes of the tensor-core GEMM.

/// Rows, columns and depth of one matrix instruction, whose operands are of 16 bits and whose sums are of 32.
pub(crate) const TILE_ROWS: usize = 16;
pub(crate) const TILE_COLS: usize = 8;
pub(crate) const TILE_K: usize = 16;
/// Units that execute it together.
pub(crate) const PLANE: usize = 32;
/// Steps that are in shared memory at a time: the one that is multiplied, the one after it and the one that is being stored.
pub(super) const STAGES: usize = 3;
/// Elements of a vector: 16 bytes, the most that a unit moves at a time and what a unit addresses of a tile.
pub(crate) const VECTOR: usize = 8;
/// Bytes of an element.
const ELEMENT: usize = 2;

/// Which axis of an operand is contiguous in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Contiguous {
    /// The summed one.
    Depth,
    /// The other: rows of the left operand, columns of the right.
    Across,
}

/// The tile of a cube: fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tiling {
    pub(super) planes_m: usize,
    pub(super) planes_n: usize,
    /// Tiles of a plane down the rows.
    pub(super) rows: usize,
    /// Tiles of a plane along the columns, an even number.
    pub(super) cols: usize,
    /// Depth of a step through shared memory: 32 or 64. A deeper step hides more latency and takes more registers.
    pub(super) depth: usize,
}

impl Tiling {
    pub(super) fn units(&self) -> usize {
        self.planes_m * self.planes_n * PLANE
    }

    pub(super) fn height(&self) -> usize {
        self.planes_m * self.rows * TILE_ROWS
    }

    pub(super) fn width(&self) -> usize {
        self.planes_n * self.cols * TILE_COLS
    }

    /// The part of the left operand that a cube has at a time.
    pub(super) fn lhs(&self, contiguous: Contiguous) -> Side {
        Side { extent: self.height(), depth: self.depth, units: self.units(), contiguous }
    }

    /// The part of the right operand that a cube has at a time.
    pub(super) fn rhs(&self, contiguous: Contiguous) -> Side {
        Side { extent: self.width(), depth: self.depth, units: self.units(), contiguous }
    }

    /// Columns of shared memory for a plane's results, padded so that rows begin at different banks.
    pub(super) fn pitch(&self) -> usize {
        self.cols * TILE_COLS + VECTOR
    }

    /// Bytes of shared memory.
    pub(super) fn shared(&self) -> usize {
        let stages = STAGES * (self.height() + self.width()) * self.depth;
        (stages + self.units() / PLANE * TILE_ROWS * self.pitch()) * ELEMENT
    }
}

/// The part of one operand that a cube loads in one step: a range of its rows or columns, by a step of the depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Side {
    pub(super) extent: usize,
    pub(super) depth: usize,
    /// Units that load it into shared memory.
    pub(super) units: usize,
    pub(super) contiguous: Contiguous,
}

impl Side {
    /// Vectors of it.
    pub(super) fn vectors(&self) -> usize {
        self.extent * self.depth / VECTOR
    }

    /// Vectors of each unit.
    pub(super) fn each(&self) -> usize {
        self.vectors() / self.units
    }
}

/// The tilings, the largest first; each was the fastest of several on an H100 for some number of tokens.
pub(super) const TILINGS: [Tiling; 3] = [
    Tiling { planes_m: 2, planes_n: 4, rows: 4, cols: 8, depth: 32 },
    Tiling { planes_m: 2, planes_n: 4, rows: 4, cols: 4, depth: 64 },
    Tiling { planes_m: 2, planes_n: 2, rows: 2, cols: 4, depth: 32 },
];

/// The smallest of them.
const SMALLEST: Tiling = TILINGS[TILINGS.len() - 1];

/// Units and bytes of shared memory that a cube needs at least.
pub(crate) fn needs() -> (usize, usize) {
    (SMALLEST.units(), SMALLEST.shared())
}

/// Elements of a tile's product that take as long as loading a row or column of it.
const LOADING: usize = 32;

/// The tiling of `batch` products of `m × n` that takes a device of so many multiprocessors the least time.
pub(super) fn choose_tiling(batch: usize, m: usize, n: usize, multiprocessors: usize, shared_memory: usize) -> Tiling {
    // Rounds of one cube each, by what a round takes. A smaller tile loads more for each product.
    let time = |tiling: &Tiling| {
        let (height, width) = (tiling.height(), tiling.width());
        let rounds = (batch * m.div_ceil(height) * n.div_ceil(width)).div_ceil(multiprocessors);
        rounds * (height * width + LOADING * (height + width))
    };
    let fits = TILINGS.into_iter().filter(|tiling| tiling.shared() <= shared_memory);
    fits.min_by_key(time).unwrap_or(SMALLEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An H100's.
    const SHARED: usize = 227 * 1024;

    #[test]
    fn units_load_equal_shares() {
        for tiling in TILINGS {
            for contiguous in [Contiguous::Depth, Contiguous::Across] {
                for side in [tiling.lhs(contiguous), tiling.rhs(contiguous)] {
                    assert_eq!(side.each() * side.units, side.vectors(), "{side:?}");
                    // The swizzle in shared memory relies on it.
                    assert!(side.extent.is_multiple_of(8 * VECTOR) && 8 % (side.depth / VECTOR) == 0, "{side:?}");
                }
            }
            // Right tiles come in pairs, and every part of a step has its share of left tiles to load.
            assert!(tiling.cols.is_multiple_of(2) && (TILE_ROWS * tiling.cols).is_multiple_of(PLANE), "{tiling:?}");
        }
    }

    #[test]
    fn tiling_is_the_fastest_measured() {
        let of = |batch, m, n| {
            let tiling = choose_tiling(batch, m, n, 132, SHARED);
            [tiling.height(), tiling.width()]
        };
        assert_eq!(of(4, 4096, 1016), [128, 256]);
        assert_eq!(of(16, 4096, 992), [128, 256]);
        assert_eq!(of(16, 512, 992), [128, 256]);
        assert_eq!(of(4, 512, 1016), [128, 128]);
        assert_eq!(of(16, 512, 256), [128, 128]);
        assert_eq!(of(4, 64, 1016), [64, 64]);
    }

    #[test]
    fn tiling_fits_shared_memory() {
        for kilobytes in [48, 64, 99, 227] {
            let tiling = choose_tiling(4, 4096, 1016, 40, kilobytes * 1024);
            assert!(tiling.shared() <= kilobytes * 1024, "{kilobytes}: {tiling:?}");
        }
    }
}
