//! Rows in which every input block stands twice, so that each of its rotations is one contiguous run.
//!
//! Folding straight from a row takes two runs of varying length a block. For a single sketch that is cheap enough; a
//! product with a sketch for every block of output rows reads the same rows again and again, and pays for copying them
//! once into this form, in which a rotation is one load at an offset.

use super::rotate::Plan;
use crate::cpu::{Scalar, vectorized};
use crate::ss1::Fold;

/// Elements of a row in doubled form.
pub(crate) fn width(fold: Fold) -> usize {
    2 * fold.d_input.div_ceil(fold.block_k) * fold.block_k
}

/// The doubled form of rows `x [rows, n]`; features missing from the last block are zero.
pub(crate) fn double<E: Scalar>(fold: Fold, x: &[E], doubled: &mut [E]) {
    let k = fold.block_k;
    for (x, doubled) in x.chunks_exact(fold.d_input).zip(doubled.chunks_exact_mut(width(fold))) {
        for (x, doubled) in x.chunks(k).zip(doubled.chunks_exact_mut(2 * k)) {
            let (first, second) = doubled.split_at_mut(k);
            for half in [first, second] {
                half[..x.len()].copy_from_slice(x);
                half[x.len()..].fill(E::ZERO);
            }
        }
    }
}

/// `x = ` both halves of every doubled block added: the transpose of [`double`].
pub(super) fn halve<E: Scalar>(fold: Fold, doubled: &[E], x: &mut [E]) {
    let k = fold.block_k;
    for (x, doubled) in x.chunks_exact_mut(fold.d_input).zip(doubled.chunks_exact(width(fold))) {
        for (x, doubled) in x.chunks_mut(k).zip(doubled.chunks_exact(2 * k)) {
            for (x, (first, second)) in x.iter_mut().zip(doubled[..k].iter().zip(&doubled[k..])) {
                *x = *first + *second;
            }
        }
    }
}

/// Runs `$body` with `$K` bound to a constant block size where it is a usual one, and to 0 elsewhere.
macro_rules! with_block_size {
    ($k:expr, $K:ident => $body:expr) => {
        match $k {
            8 => {
                const $K: usize = 8;
                $body
            }
            16 => {
                const $K: usize = 16;
                $body
            }
            32 => {
                const $K: usize = 32;
                $body
            }
            _ => {
                const $K: usize = 0;
                $body
            }
        }
    };
}

impl Plan {
    /// `a = fold(x)` for doubled rows.
    pub(crate) fn fold_doubled<E: Scalar>(&self, doubled: &[E], a: &mut [E]) {
        with_block_size!(self.fold.block_k, K => vectorized(
            #[inline(always)]
            || self.fold_blocks::<E, K>(doubled, a),
        ));
    }

    #[inline(always)]
    fn fold_blocks<E: Scalar, const K: usize>(&self, doubled: &[E], a: &mut [E]) {
        let k = if K == 0 { self.fold.block_k } else { K };
        for (doubled, a) in doubled.chunks_exact(width(self.fold)).zip(a.chunks_exact_mut(self.fold.width())) {
            let groups = doubled.chunks(2 * k * self.fold.reduction).zip(self.rotations.chunks(self.fold.reduction));
            for (a, (blocks, rotations)) in a.chunks_exact_mut(k).zip(groups) {
                let mut sum = [E::ZERO; K];
                if K == 0 {
                    a.fill(E::ZERO);
                }
                for (block, (shift, negative)) in blocks.chunks_exact(2 * k).zip(rotations) {
                    let sign = if *negative { E::ZERO - E::ONE } else { E::ONE };
                    let values = &block[*shift..*shift + k];
                    // The sum of a usual block stays in registers.
                    let sum = if K == 0 { &mut *a } else { &mut sum[..] };
                    for (sum, value) in sum.iter_mut().zip(values) {
                        *sum = value.mul_add(sign, *sum);
                    }
                }
                if K != 0 {
                    a.copy_from_slice(&sum);
                }
            }
        }
    }

    /// `doubled += unfold(a)`.
    pub(super) fn add_unfolded_doubled<E: Scalar>(&self, a: &[E], doubled: &mut [E]) {
        with_block_size!(self.fold.block_k, K => vectorized(
            #[inline(always)]
            || self.unfold_blocks::<E, K>(a, doubled),
        ));
    }

    #[inline(always)]
    fn unfold_blocks<E: Scalar, const K: usize>(&self, a: &[E], doubled: &mut [E]) {
        let k = if K == 0 { self.fold.block_k } else { K };
        for (doubled, a) in doubled.chunks_exact_mut(width(self.fold)).zip(a.chunks_exact(self.fold.width())) {
            let groups =
                doubled.chunks_mut(2 * k * self.fold.reduction).zip(self.rotations.chunks(self.fold.reduction));
            for (a, (blocks, rotations)) in a.chunks_exact(k).zip(groups) {
                for (block, (shift, negative)) in blocks.chunks_exact_mut(2 * k).zip(rotations) {
                    let sign = if *negative { E::ZERO - E::ONE } else { E::ONE };
                    for (sum, value) in block[*shift..*shift + k].iter_mut().zip(a) {
                        *sum = value.mul_add(sign, *sum);
                    }
                }
            }
        }
    }
}
