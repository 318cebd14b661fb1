//! Coupled components in panels of tokens, for the expansion that takes rows of `U`.
//!
//! They are turned around a few tokens at a time, where the coupling has just left them in a near cache. As a stage of its own, it
//! would read what another core had written, and be waited for.

use super::coupling::couple_strip;
use crate::cpu::panel::{self, Ahead, SharedOutput, transpose};
use crate::cpu::{Matrix, Scalar, load, store_at};
use pulp::Simd;

/// Where `t` lies: `[block][panel of tokens][component][width]`.
#[derive(Clone, Copy)]
pub(super) struct TurnedLayout {
    width: usize,
    /// Panels of a block.
    panels: usize,
    r: usize,
    blocks: usize,
}

impl TurnedLayout {
    pub fn new<E: Scalar>(r: usize, blocks: usize, tokens: usize) -> Self {
        let (width, _) = panel::shape::<E>();
        Self { width, panels: tokens.div_ceil(width), r, blocks }
    }

    /// Where a component of a token is. The tokens after it in the same panel follow.
    pub fn at(self, block: usize, token: usize, component: usize) -> usize {
        ((block * self.panels + token / self.width) * self.r + component) * self.width + token % self.width
    }

    /// What will be written of `out`: `cols` components of every block from `first` on, of `tokens` from `start` on, and of the
    /// other tokens in their panels.
    pub fn to_write<E: Scalar>(
        self,
        out: SharedOutput<'_, E>,
        [first, cols]: [usize; 2],
        [start, tokens]: [usize; 2],
    ) -> Ahead<E, true> {
        let panels = (start + tokens).div_ceil(self.width) - start / self.width;
        let offset = self.at(0, start - start % self.width, first);
        let strides = [self.block_stride(), self.r * self.width];
        Ahead::to_write(out, offset, [self.blocks, panels, cols * self.width], strides)
    }

    /// Elements of a block.
    pub fn block_stride(self) -> usize {
        self.panels * self.r * self.width
    }

    pub fn len(self) -> usize {
        self.blocks * self.block_stride()
    }
}

/// Elements that [`couple_turned`] needs for `blocks` output blocks.
pub(super) fn scratch_len<S: Simd, E: Scalar>(blocks: usize) -> usize {
    (blocks + 1) * group::<S, E>() * panel::width::<S, E>()
}

/// Tokens that are turned around together.
#[inline(always)]
fn group<S: Simd, E: Scalar>() -> usize {
    panel::width::<S, E>() / 2
}

/// [`couple_strip`] for the tokens from `start` on and the `cols` components from `first` on, turned around.
///
/// # Safety
///
/// Nothing else may access these components of these tokens.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn couple_turned<S: Simd, E: Scalar>(
    simd: S,
    z: &[E],
    [tokens, b2, b1]: [usize; 3],
    z_strides: [usize; 2],
    couplings: &[E],
    t: SharedOutput<'_, E>,
    layout: TurnedLayout,
    [start, first, cols]: [usize; 3],
    scratch: &mut [E],
) {
    let (width, group) = (panel::width::<S, E>(), group::<S, E>());
    let (coupled, turned) = scratch.split_at_mut(b1 * group * width);
    let mut done = 0;
    while done < tokens {
        let token = start + done;
        let count = (group - token % group).min(tokens - done);
        let (sizes, strides) = ([count, b2, b1], [b1 * width, width]);
        // SAFETY: the buffer is this thread's alone.
        unsafe {
            let out = SharedOutput::new(&mut *coupled);
            couple_strip::<S, E>(simd, &z[done * z_strides[0]..], sizes, z_strides, couplings, out, 0, strides);
        }
        for block in 0..b1 {
            transpose::<S, E>(Matrix::row_major(&coupled[block * width..], count, cols, b1 * width), turned, group);
            let mut at = layout.at(block, token, first);
            for tokens in turned.chunks_exact(group).take(cols) {
                // SAFETY: within the output, of which these elements are nobody else's, as the caller says.
                let t = unsafe { t.vacant(at, count) };
                if count == group {
                    // SAFETY: a vector's worth of elements.
                    unsafe { store_at::<S, E>(t.as_mut_ptr().cast(), load::<S, E>(tokens)) };
                } else {
                    t.write_copy_of_slice(&tokens[..count]);
                }
                at += width;
            }
        }
        done += count;
    }
}
