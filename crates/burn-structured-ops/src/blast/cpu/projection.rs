//! A strip of the rank of `x_j V_j` for every block, or of `dy_i U_i`: how both passes begin.
//!
//! A strip of a factor is brought into panels right before rows are multiplied by it, a run of its terms at a time. The panels of a run
//! stay in the first-level cache under all rows, and the run after it, asked for meanwhile, in the second-level cache until it is its turn:
//! few tokens use up a factor about as fast as it comes from memory.

use crate::cpu::panel::{self, Landing, Rows, SharedOutput, Target, multiply_panels, pack_and_multiply};
use crate::cpu::{Matrix, Scalar};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Bytes of one panel of a run.
const PANEL_BYTES: usize = 16 << 10;

/// Some components of the rank of every block of a factor `[blocks, terms, r]`.
#[derive(Clone, Copy)]
pub(super) struct StripOfFactor<'a> {
    pub factor: &'a FlexTensor,
    pub blocks: usize,
    pub terms: usize,
    /// Components of the rank.
    pub first: usize,
    pub cols: usize,
}

/// What becomes of a packed strip.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Packed {
    /// It is kept whole, for more rows.
    Kept,
    /// Each run takes the place of the one before: all rows are here.
    Replaced,
}

/// Terms of a run, of which a factor has so many: as even as possible.
pub(super) fn run_terms<E: Scalar>(terms: usize, width: usize) -> usize {
    let longest = PANEL_BYTES / (width * size_of::<E>());
    terms.div_ceil(terms.div_ceil(longest).max(1))
}

impl Packed {
    /// Elements of a packed strip, `width` of panels times their number wide.
    pub fn len<E: Scalar>(self, blocks: usize, terms: usize, width: usize, strip: usize) -> usize {
        match self {
            Self::Kept => blocks * terms * strip,
            Self::Replaced => run_terms::<E>(terms, width) * strip,
        }
    }
}

impl<'a> StripOfFactor<'a> {
    /// Multiplies `rows [count, blocks · terms]` by the strip, block by block, packing it into `packed` on the way.
    ///
    /// The product has rows of `blocks` strips, whole panels wide; `computed` columns of each are written. Meanwhile `following`,
    /// another strip, is asked for once nothing is left of this one.
    ///
    /// # Safety
    ///
    /// Nothing else may access `out` meanwhile.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn pack_and_project<S: Simd, E: Scalar>(
        self,
        simd: S,
        rows: Rows<'_, E>,
        packed: &mut [E],
        kind: Packed,
        computed: usize,
        out: SharedOutput<'_, E>,
        following: Option<Self>,
    ) {
        let run = run_terms::<E>(self.terms, panel::width::<S, E>());
        let mut at = Run { block: 0, start: 0, terms: run.min(self.terms) };
        loop {
            let next = at.next(self, run);
            let ahead = match (next, following) {
                (Some(next), _) => Some(next.of::<E>(self)),
                (None, Some(following)) => Some(Run { block: 0, start: 0, terms: at.terms }.of(following)),
                (None, None) => None,
            };
            let strip = self.strip::<S, E>();
            let packed = match kind {
                Packed::Kept => &mut packed[(at.block * self.terms + at.start) * strip..][..at.terms * strip],
                Packed::Replaced => &mut packed[..at.terms * strip],
            };
            let rows = rows.terms(at.block * self.terms + at.start, at.terms);
            // SAFETY: as the caller says.
            unsafe {
                let target = at.target::<S, E>(self, out);
                pack_and_multiply(simd, rows, at.of(self), packed, computed, target, ahead);
            }
            match next {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// [`pack_and_project`](Self::pack_and_project) out of a strip that it has left packed.
    ///
    /// # Safety
    ///
    /// Nothing else may access `out` meanwhile.
    #[inline(always)]
    pub unsafe fn project<S: Simd, E: Scalar>(
        self,
        simd: S,
        rows: Rows<'_, E>,
        packed: &[E],
        computed: usize,
        out: SharedOutput<'_, E>,
    ) {
        let run = run_terms::<E>(self.terms, panel::width::<S, E>());
        let mut at = Some(Run { block: 0, start: 0, terms: run.min(self.terms) });
        while let Some(here) = at {
            let (first, strip) = (here.block * self.terms + here.start, self.strip::<S, E>());
            let packed = &packed[first * strip..][..here.terms * strip];
            // SAFETY: as the caller says.
            unsafe {
                let target = here.target::<S, E>(self, out);
                multiply_panels(simd, rows.terms(first, here.terms), packed, computed, target, None);
            }
            at = here.next(self, run);
        }
    }

    /// Columns of the strip in whole panels.
    #[inline(always)]
    fn strip<S: Simd, E: Scalar>(self) -> usize {
        self.cols.next_multiple_of(panel::width::<S, E>())
    }
}

/// Some terms of one block.
#[derive(Clone, Copy)]
struct Run {
    block: usize,
    start: usize,
    terms: usize,
}

impl Run {
    /// Those after them.
    #[inline(always)]
    fn next(self, strip: StripOfFactor<'_>, run: usize) -> Option<Self> {
        let start = self.start + self.terms;
        if start < strip.terms {
            Some(Self { start, terms: run.min(strip.terms - start), ..self })
        } else if self.block + 1 < strip.blocks {
            Some(Self { block: self.block + 1, start: 0, terms: run.min(strip.terms) })
        } else {
            None
        }
    }

    #[inline(always)]
    fn of<E: Scalar>(self, strip: StripOfFactor<'_>) -> Matrix<'_, E> {
        Matrix::of(strip.factor, self.block).cols(strip.first, strip.cols).rows(self.start, self.terms)
    }

    #[inline(always)]
    fn target<'a, S: Simd, E: Scalar>(self, of: StripOfFactor<'_>, out: SharedOutput<'a, E>) -> Target<'a, E> {
        let strip = of.strip::<S, E>();
        let landing = if self.start == 0 { Landing::Overwrite } else { Landing::AddTo };
        Target { out, offset: self.block * strip, stride: of.blocks * strip, landing }
    }
}
