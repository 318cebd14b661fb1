//! A strip of the rank of `x_j V_j` for every block, or of `dy_i U_i`: how both passes begin.
//!
//! A factor is packed on the way, a run of its terms at a time. These terms of a tile of rows stay in the first-level cache while one
//! panel after the other meets them, and the run after them, asked for meanwhile, in the second-level cache until it is its turn: few
//! tokens use up a factor about as fast as it comes from memory.

use crate::cpu::gemm::{self, Epilogue, ExtraPrefetch, Rows, SharedOutput, Target, pack_and_multiply};
use crate::cpu::{Matrix, Scalar};
use burn_flex::FlexTensor;
use pulp::Simd;
use std::iter::successors;

/// Terms of a run at most.
const KC: usize = 256;

/// Some components of the rank of every block of a factor `[blocks, terms, r]`.
#[derive(Clone, Copy)]
pub(super) struct RankBlock<'a> {
    pub factor: &'a FlexTensor,
    /// Components of the rank.
    pub first: usize,
    pub cols: usize,
}

/// Terms of a run, of which a factor has so many.
pub(super) fn kc(terms: usize) -> usize {
    gemm::balanced_chunk(terms, KC)
}

impl<'a> RankBlock<'a> {
    /// The strip that this thread is likely to take next, if there is one.
    pub fn following(self) -> Option<Self> {
        let [_, _, r] = self.factor.layout().shape().dims();
        let first = self.first + rayon::current_num_threads() * self.cols;
        (first < r).then(|| Self { first, cols: self.cols.min(r - first), ..self })
    }

    /// Multiplies `rows [count, blocks · terms]` by the strip, block by block; `packed` has room for a [run](kc) of terms.
    ///
    /// The product has rows of `blocks` strips, full_tile panels wide; `computed` columns of each are written. Once nothing is left
    /// to ask for of this strip, the one `following` is; `beside` is asked for on the way, what is needed once the product is there.
    ///
    /// # Safety
    ///
    /// Nothing else may access `out` meanwhile.
    ///
    /// # Panics
    ///
    /// If `computed` is less than the strip, or more than its panels, or `out` is too short.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn project<S: Simd, E: Scalar>(
        self,
        simd: S,
        rows: Rows<'_, E>,
        packed: &mut [E],
        computed: usize,
        out: SharedOutput<'_, E>,
        following: Option<Self>,
        beside: ExtraPrefetch<E>,
    ) {
        let [blocks, terms, _] = self.factor.layout().shape().dims();
        let run = kc(terms);
        let strip = self.cols.next_multiple_of(gemm::nr::<S, E>());
        let first = Run { block: 0, start: 0, terms: run.min(terms) };
        let after = |here: &Run| here.next([blocks, terms], run);
        let prefetch_steps = |terms: usize| gemm::prefetch_steps::<S, E>(rows.terms(0, terms), computed);
        let of_block = terms / run.max(1) * prefetch_steps(run) + prefetch_steps(terms % run.max(1));
        let mut beside = beside.in_steps(blocks * of_block);
        for here in successors(Some(first), after) {
            let ahead = match after(&here) {
                Some(next) => Some(next.of(self)),
                None => following.map(|following| first.of(following)),
            };
            let rows = rows.terms(here.block * terms + here.start, here.terms);
            let epilogue = if here.start == 0 { Epilogue::Store } else { Epilogue::Accumulate };
            let target = Target { out, offset: here.block * strip, stride: blocks * strip, epilogue };
            let packed = &mut packed[..here.terms * strip];
            // SAFETY: as the caller says; what later runs add to, the first one has written.
            unsafe { pack_and_multiply(simd, rows, here.of(self), packed, computed, target, ahead, &mut beside) };
        }
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
    /// Those after them, of `blocks` blocks of `terms` each.
    #[inline(always)]
    fn next(self, [blocks, terms]: [usize; 2], run: usize) -> Option<Self> {
        let start = self.start + self.terms;
        if start < terms {
            Some(Self { start, terms: run.min(terms - start), ..self })
        } else if self.block + 1 < blocks {
            Some(Self { block: self.block + 1, start: 0, terms: run.min(terms) })
        } else {
            None
        }
    }

    #[inline(always)]
    fn of<E: Scalar>(self, strip: RankBlock<'_>) -> Matrix<'_, E> {
        Matrix::of(strip.factor, self.block).cols(strip.first, strip.cols).rows(self.start, self.terms)
    }
}
