//! Where coupled components lie between the strips, which write them, and what sums over the whole rank (with few tokens, see
//! `turned.rs`).
//!
//! In panels, so that a task writes whole cache lines one after the other, and they are read as
//! [`Rows`](crate::cpu::panel::Rows) in runs, without another copy.

use crate::cpu::Scalar;
use crate::cpu::panel::{self, PLACES_BYTES};

/// Where `t` lies: `[block][panel][token][width]`.
#[derive(Clone, Copy)]
pub(super) struct CoupledLayout {
    pub width: usize,
    pub panels: usize,
    /// Tokens and padding. The panels of one token would otherwise compete for the same few places of a cache.
    pub tokens: usize,
    pub blocks: usize,
}

impl CoupledLayout {
    pub fn new<E: Scalar>(r: usize, blocks: usize, tokens: usize) -> Self {
        let (width, rows) = panel::shape::<E>();
        let places = (PLACES_BYTES / (width * size_of::<E>())).max(1);
        let padding = (rows % places + places - tokens % places) % places;
        Self { width, panels: r.div_ceil(width), tokens: tokens + padding, blocks }
    }

    /// Distances between tokens, and between blocks.
    pub fn strides(self) -> [usize; 2] {
        [self.width, self.block_stride()]
    }

    pub fn panel_stride(self) -> usize {
        self.tokens * self.width
    }

    pub fn block_stride(self) -> usize {
        self.panels * self.panel_stride()
    }

    pub fn len(self) -> usize {
        self.blocks * self.block_stride()
    }
}
