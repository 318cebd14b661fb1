//! Coupled components in panels of tokens, for the expansion that takes rows of `U`.
//!
//! They are transposed around a few tokens at a time, where the coupling has just left them in a near cache. As a stage of its own, it
//! would read what another core had written, and be waited for.

use super::coupling::couple_panel;
use crate::cpu::gemm::{self, PrefetchCursor, SharedOutput, transpose};
use crate::cpu::{Matrix, Scalar, load, store_at};
use pulp::Simd;

/// Where `t` lies: `[block][panel of tokens][component][nr]`.
#[derive(Clone, Copy)]
pub(super) struct TransposedPanels {
    nr: usize,
    tokens: usize,
    /// Panels of a block.
    panels: usize,
    r: usize,
    blocks: usize,
}

impl TransposedPanels {
    pub fn new<E: Scalar>(r: usize, blocks: usize, tokens: usize) -> Self {
        let (nr, _) = gemm::shape::<E>();
        Self { nr, tokens, panels: tokens.div_ceil(nr), r, blocks }
    }

    /// Where a component of a token is. The tokens after it in the same panel follow.
    pub fn at(self, block: usize, token: usize, component: usize) -> usize {
        ((block * self.panels + token / self.nr) * self.r + component) * self.nr + token % self.nr
    }

    /// What will be written of `out`: `cols` components of every block from `first` on, of `tokens` from `start` on. If they are in
    /// several panels, of all tokens there.
    pub fn to_write<E: Scalar>(
        self,
        out: SharedOutput<'_, E>,
        [first, cols]: [usize; 2],
        [start, tokens]: [usize; 2],
    ) -> PrefetchCursor<E, true> {
        let within = start % self.nr;
        if within + tokens <= self.nr {
            let strides = [self.block_stride(), self.nr];
            return PrefetchCursor::to_write(out, self.at(0, start, first), [self.blocks, cols, tokens], strides);
        }
        let panels = (within + tokens).div_ceil(self.nr);
        let strides = [self.block_stride(), self.r * self.nr];
        PrefetchCursor::to_write(out, self.at(0, start - within, first), [self.blocks, panels, cols * self.nr], strides)
    }

    /// Elements of a block.
    pub fn block_stride(self) -> usize {
        self.panels * self.r * self.nr
    }

    pub fn len(self) -> usize {
        self.blocks * self.block_stride()
    }
}

/// Elements that [`couple_transposed`] needs for `blocks` output blocks.
pub(super) fn scratch_len<S: Simd, E: Scalar>(blocks: usize) -> usize {
    (blocks + 1) * E::lanes::<S>() * gemm::nr::<S, E>()
}

/// [`couple_panel`] for the tokens from `start` on and the `cols` components from `first` on, transposed around.
///
/// # Safety
///
/// Nothing else may access these components of these tokens.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn couple_transposed<S: Simd, E: Scalar>(
    simd: S,
    z: &[E],
    [tokens, b2, b1]: [usize; 3],
    z_strides: [usize; 2],
    couplings: &[E],
    t: SharedOutput<'_, E>,
    layout: TransposedPanels,
    [start, first, cols]: [usize; 3],
    scratch: &mut [E],
) {
    // Tokens that are transposed around with_grouped: a vector of them is stored.
    let (nr, group) = (gemm::nr::<S, E>(), E::lanes::<S>());
    let (coupled, transposed) = scratch.split_at_mut(b1 * group * nr);
    let mut done = 0;
    while done < tokens {
        let token = start + done;
        let count = (group - token % group).min(tokens - done);
        let (sizes, strides) = ([count, b2, b1], [b1 * nr, nr]);
        // SAFETY: the buffer is this thread's alone.
        unsafe {
            let out = SharedOutput::new(&mut *coupled);
            couple_panel::<S, E>(simd, &z[done * z_strides[0]..], sizes, z_strides, couplings, out, 0, strides);
        }
        for block in 0..b1 {
            transpose::<S, E>(Matrix::row_major(&coupled[block * nr..], count, cols, b1 * nr), transposed, group);
            let mut at = layout.at(block, token, first);
            // After the last token nobody else has any in this panel.
            let full_tile = count == group || (token % group == 0 && token + count == layout.tokens);
            for tokens in transposed.chunks_exact(group).take(cols) {
                // SAFETY: within the output, of which these elements are nobody else's, as the caller says.
                unsafe {
                    if full_tile {
                        store_at::<S, E>(t.uninit_slice(at, group).as_mut_ptr().cast(), load::<S, E>(tokens));
                    } else {
                        t.uninit_slice(at, count).write_copy_of_slice(&tokens[..count]);
                    }
                }
                at += nr;
            }
        }
        done += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// Components of the rank, and the blocks on either side.
    const SIZES: [usize; 3] = [45, 3, 2];

    /// The coupling of full_tile numbers for `count` of `tokens` from `start` on, into an output of -1.
    struct Couple<'a, E> {
        tokens: usize,
        start: usize,
        count: usize,
        number: &'a dyn Fn(usize) -> E,
    }

    impl<E: Scalar> pulp::WithSimd for Couple<'_, E> {
        type Output = Vec<E>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
            let Self { tokens, start, count, number } = self;
            let [r, b1, b2] = SIZES;
            let nr = gemm::nr::<S, E>();
            let layout = TransposedPanels::new::<E>(r, b1, tokens);
            let mut t = vec![number(0); layout.len()];
            let mut scratch = vec![E::NAN; scratch_len::<S, E>(b1)];
            let t_out = SharedOutput::new(&mut t);
            for first in (0..r).step_by(nr) {
                let cols = nr.min(r - first);
                let values = |len: usize, salt: usize| (0..len).map(|at| number(at * salt % 7 + 1)).collect::<Vec<E>>();
                let (z, couplings) = (values(count * b2 * nr, first + 3), values(b1 * b2 * nr, first + 5));
                let (sizes, z_strides, here) = ([count, b2, b1], [b2 * nr, nr], [start, first, cols]);
                // SAFETY: the output is this test's alone.
                unsafe {
                    couple_transposed::<S, E>(simd, &z, sizes, z_strides, &couplings, t_out, layout, here, &mut scratch)
                };
            }
            t
        }
    }

    fn check<E: Scalar + PartialEq + Debug>(number: impl Fn(usize) -> E) {
        let (nr, _) = gemm::shape::<E>();
        let [r, b1, b2] = SIZES;
        for (tokens, start, count) in
            [(64, 0, 64), (64, 0, 36), (64, 36, 28), (70, 12, 50), (70, 60, 10), (9, 0, 9), (33, 32, 1), (50, 3, 4)]
        {
            let t = pulp::Arch::new().dispatch(Couple { tokens, start, count, number: &number });
            let layout = TransposedPanels::new::<E>(r, b1, tokens);
            for (block, token, k) in
                (0..b1).flat_map(|block| (0..tokens).flat_map(move |token| (0..r).map(move |k| (block, token, k))))
            {
                let (first, lane) = (k / nr * nr, k % nr);
                let value = |at: usize, salt: usize| at * (first + salt) % 7;
                let expected = if (start..start + count).contains(&token) {
                    let z = |j: usize| value(((token - start) * b2 + j) * nr + lane, 3);
                    let s = |j: usize| value((block * b2 + j) * nr + lane, 5);
                    // `number` is one less than its argument.
                    number((0..b2).map(|j| z(j) * s(j)).sum::<usize>() + 1)
                } else {
                    number(0)
                };
                assert_eq!(
                    t[layout.at(block, token, k)],
                    expected,
                    "{start} + {count} of {tokens}: {block}, {token}, {k}"
                );
            }
        }
    }

    #[test]
    fn tokens_are_coupled_wherever_they_begin_and_others_are_left_alone() {
        check(|at| at as f32 - 1.0);
        check(|at| at as f64 - 1.0);
    }
}
