//! The sizes of a product, as the decoding kernels see them.

use cubecl::prelude::*;

/// The sizes of the product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct DecodeSizes {
    pub(super) tokens: usize,
    pub(super) in_blocks: usize,
    pub(super) out_blocks: usize,
    /// Features of a block, `n / b2`.
    pub(super) features: usize,
    /// Output rows of a block, `m / b1`.
    pub(super) out_rows: usize,
    pub(super) rank: usize,
}
