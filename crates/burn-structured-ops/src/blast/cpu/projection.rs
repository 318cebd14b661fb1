//! The projection of a rank block, `x_j V_j` (or `dy_i U_i`) for every block: how both passes begin.

use crate::cpu::gemm::{Rows, Target, balanced_chunk, pack_and_gemm, shape};
use crate::cpu::{Matrix, Scalar};
use burn_flex::FlexTensor;

/// Depth of a packed block at most: half of what one product alone takes, since `z` has to stay in the L2 cache as well.
const KC: usize = if cfg!(miri) { 4 } else { 256 };

/// Depth of a packed block of a factor of so much depth.
pub(super) fn kc(depth: usize) -> usize {
    balanced_chunk(depth, KC)
}

/// Components `first .. first + cols` of the rank of every block of a factor `[blocks, depth, r]`.
#[derive(Clone, Copy)]
pub(super) struct RankBlock<'a> {
    pub factor: &'a FlexTensor,
    pub first: usize,
    pub cols: usize,
}

impl RankBlock<'_> {
    /// The rank block that this thread is likely to take next.
    pub fn next(self) -> Option<Self> {
        let [_, _, r] = self.factor.layout().shape().dims();
        let first = self.first + rayon::current_num_threads() * self.cols;
        (first < r).then(|| Self { first, cols: self.cols.min(r - first), ..self })
    }

    /// Depths `start .. start + depth` of a block.
    fn part<E: Scalar>(&self, block: usize, start: usize, depth: usize) -> Matrix<'_, E> {
        Matrix::of(self.factor, block).cols(self.first, self.cols).rows(start, depth)
    }

    /// Multiplies `rows [count, blocks · depth]` by the rank block into `out [count, blocks, stride]`, where `stride` is `cols` in whole
    /// panels; `stored` columns of each are stored. `packed` has room for `kc · stride` elements. The rank block `next` is prefetched at
    /// the end.
    ///
    /// # Panics
    ///
    /// If `stored` is less than `cols` or more than `stride`, or a slice is too short.
    pub fn project<E: Scalar>(
        self,
        rows: Rows<'_, E>,
        packed: &mut [E],
        stored: usize,
        out: &mut [E],
        next: Option<Self>,
    ) {
        let [blocks, depth, _] = self.factor.layout().shape().dims();
        let kc = kc(depth).max(1);
        let stride = self.cols.next_multiple_of(shape::<E>().0);
        for block in 0..blocks {
            let target = Target::of_slice(&mut out[block * stride..], [rows.count, stored], blocks * stride);
            for start in (0..depth).step_by(kc) {
                let here = kc.min(depth - start);
                let next = if start + here < depth {
                    Some(self.part(block, start + here, kc.min(depth - start - here)))
                } else if block + 1 < blocks {
                    Some(self.part(block + 1, 0, kc.min(depth)))
                } else {
                    next.as_ref().map(|next| next.part(0, 0, kc.min(depth)))
                };
                // SAFETY: the slice is initialised.
                let target = if start == 0 { target } else { unsafe { target.accumulate() } };
                let rows = rows.depths(block * depth + start, here);
                pack_and_gemm(rows, self.part(block, start, here), &mut packed[..here * stride], target, next);
            }
        }
    }
}
