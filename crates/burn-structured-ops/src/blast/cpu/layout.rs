//! Where coupled components lie between the strips, which write them, and what sums over the full_tile rank (with few tokens, see
//! `transposed.rs`).
//!
//! In panels, so that a task writes full_tile cache lines one after the other, and they are read as
//! [`Rows`](crate::cpu::gemm::Rows) in runs, without another copy.

use crate::cpu::Scalar;
use crate::cpu::gemm::{self, L1_SET_STRIDE};

/// Where `t` lies: `[block][panel][token][nr]`.
#[derive(Clone, Copy)]
pub(super) struct CoupledLayout {
    pub nr: usize,
    pub panels: usize,
    /// Tokens and padding. The panels of one token would otherwise compete for the same few places of a cache.
    pub tokens: usize,
    pub blocks: usize,
}

impl CoupledLayout {
    pub fn new<E: Scalar>(r: usize, blocks: usize, tokens: usize) -> Self {
        let (nr, rows) = gemm::shape::<E>();
        let places = (L1_SET_STRIDE / (nr * size_of::<E>())).max(1);
        let padding = (rows % places + places - tokens % places) % places;
        Self { nr, panels: r.div_ceil(nr), tokens: tokens + padding, blocks }
    }

    /// Distances between tokens, and between blocks.
    pub fn strides(self) -> [usize; 2] {
        [self.nr, self.block_stride()]
    }

    pub fn panel_stride(self) -> usize {
        self.tokens * self.nr
    }

    pub fn block_stride(self) -> usize {
        self.panels * self.panel_stride()
    }

    pub fn len(self) -> usize {
        self.blocks * self.block_stride()
    }
}
