//! Projections and coupled components in memory.
//!
//! They are kept in panels of the rank, so that a task writes whole cache lines and the product over the rank reads them as
//! [`Rows`] in runs, without another copy.

use crate::cpu::gemm::{L1_SET_STRIDE, Rows, shape};
use crate::cpu::{Scalar, SharedOutput, store_at};
use pulp::Simd;

/// `[block][panel][token][NR]`.
#[derive(Clone, Copy)]
pub(super) struct PanelLayout {
    pub nr: usize,
    /// Panels of the rank.
    pub panels: usize,
    /// Tokens and padding, without which the panels of one token would alias to the same L1 set.
    tokens: usize,
    pub blocks: usize,
}

impl PanelLayout {
    pub fn new<E: Scalar>(r: usize, blocks: usize, tokens: usize) -> Self {
        let (nr, mr) = shape::<E>();
        let sets = (L1_SET_STRIDE / (nr * size_of::<E>())).max(1);
        let padding = (mr % sets + sets - tokens % sets) % sets;
        Self { nr, panels: r.div_ceil(nr), tokens: tokens + padding, blocks }
    }

    /// Elements between panels.
    pub fn panel_stride(self) -> usize {
        self.tokens * self.nr
    }

    /// Elements between blocks.
    pub fn block_stride(self) -> usize {
        self.panels * self.panel_stride()
    }

    /// Elements of all blocks.
    pub fn len(self) -> usize {
        self.blocks * self.block_stride()
    }

    /// The components of `block`, `r` for each of the first `tokens` tokens.
    pub fn rows<E: Scalar>(self, elements: &[E], block: usize, [tokens, r]: [usize; 2]) -> Rows<'_, E> {
        let elements = &elements[block * self.block_stride()..];
        Rows::in_runs(elements, [tokens, r], self.nr, self.nr, self.panel_stride())
    }

    /// Panel `panel` of all blocks, for `tokens` tokens from `start` on.
    ///
    /// # Safety
    ///
    /// While the target lives, nothing else may access these elements.
    pub unsafe fn target<E: Scalar>(
        self,
        out: SharedOutput<'_, E>,
        panel: usize,
        [start, tokens]: [usize; 2],
    ) -> PanelTarget<'_, E> {
        let offset = panel * self.panel_stride() + start * self.nr;
        // SAFETY: as the caller says.
        unsafe { PanelTarget::new(out, offset, [tokens, self.blocks], [self.nr, self.block_stride()], self.nr) }
    }
}

/// One panel of the rank: `NR` elements for each token and block.
#[derive(Clone, Copy)]
pub(super) struct PanelRows<'a, E> {
    data: &'a [E],
    pub tokens: usize,
    pub blocks: usize,
    /// Elements between tokens, and between blocks.
    strides: [usize; 2],
}

impl<'a, E: Scalar> PanelRows<'a, E> {
    /// # Panics
    ///
    /// If `data` is too short.
    pub fn new(data: &'a [E], [tokens, blocks]: [usize; 2], strides: [usize; 2], nr: usize) -> Self {
        assert!(panel_end([tokens, blocks], strides, nr) <= data.len(), "panel rows within their data");
        Self { data, tokens, blocks, strides }
    }

    /// A pointer to the elements of a token and block, which must exist if it is read.
    #[inline(always)]
    pub fn address(self, token: usize, block: usize) -> *const E {
        self.data.as_ptr().wrapping_add(token * self.strides[0] + block * self.strides[1])
    }
}

/// One panel of the rank to be written. It does not leave its thread.
#[derive(Clone, Copy)]
pub(super) struct PanelTarget<'a, E> {
    out: SharedOutput<'a, E>,
    offset: usize,
    pub tokens: usize,
    pub blocks: usize,
    strides: [usize; 2],
    nr: usize,
    not_send: std::marker::PhantomData<*mut E>,
}

impl<'a, E: Scalar> PanelTarget<'a, E> {
    /// # Panics
    ///
    /// If `out` is too short.
    pub fn of_slice(out: &'a mut [E], sizes: [usize; 2], strides: [usize; 2], nr: usize) -> Self {
        // SAFETY: the slice is borrowed for as long as the target lives.
        unsafe { Self::new(SharedOutput::new(out), 0, sizes, strides, nr) }
    }

    /// # Safety
    ///
    /// While the target lives, nothing else may access these elements.
    ///
    /// # Panics
    ///
    /// If the output is too short.
    pub unsafe fn new(
        out: SharedOutput<'a, E>,
        offset: usize,
        [tokens, blocks]: [usize; 2],
        strides: [usize; 2],
        nr: usize,
    ) -> Self {
        assert!(offset + panel_end([tokens, blocks], strides, nr) <= out.len(), "panel rows within the output");
        Self { out, offset, tokens, blocks, strides, nr, not_send: std::marker::PhantomData }
    }

    /// Stores a vector at column `first` of a token and block.
    ///
    /// # Panics
    ///
    /// If they do not exist.
    #[inline(always)]
    pub fn store<S: Simd>(self, token: usize, block: usize, first: usize, vector: E::Vector<S>) {
        assert!(token < self.tokens && block < self.blocks && first + E::lanes::<S>() <= self.nr);
        let index = self.offset + token * self.strides[0] + block * self.strides[1] + first;
        // SAFETY: within the output, as asserted here and by `new`; not shared, as the caller of `new` said.
        unsafe { store_at::<S, E>(self.out.address(index), vector) };
    }
}

/// Elements up to the end of the last panel row.
fn panel_end([tokens, blocks]: [usize; 2], strides: [usize; 2], nr: usize) -> usize {
    if tokens * blocks == 0 { 0 } else { (tokens - 1) * strides[0] + (blocks - 1) * strides[1] + nr }
}
