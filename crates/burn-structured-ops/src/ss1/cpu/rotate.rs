//! Folding and unfolding rows: sums of rotated runs.

use crate::cpu::{Scalar, vectorized};
use crate::ss1::Fold;

/// The rotations of one output block, drawn once and used for every row.
pub(crate) struct Plan {
    pub(super) fold: Fold,
    /// Rotation and sign of every input block, in order.
    pub(super) rotations: Vec<(usize, bool)>,
}

impl Plan {
    pub(crate) fn new(fold: Fold, output_block: usize) -> Self {
        let blocks = fold.d_input.div_ceil(fold.block_k);
        let rotation = |block: usize| fold.rotation(output_block, block / fold.reduction, block % fold.reduction);
        Self { fold, rotations: (0..blocks).map(rotation).collect() }
    }

    /// `a = fold(x)` for rows `x [rows, n]`, `a [rows, w]`.
    pub(crate) fn fold<E: Scalar>(&self, x: &[E], a: &mut [E]) {
        vectorized(
            #[inline(always)]
            || {
                for (x, a) in x.chunks_exact(self.fold.d_input).zip(a.chunks_exact_mut(self.fold.width())) {
                    a.fill(E::ZERO);
                    for (block, (shift, negative)) in self.rotations.iter().enumerate() {
                        let x = &x[block * self.fold.block_k..];
                        let a = &mut a[block / self.fold.reduction * self.fold.block_k..][..self.fold.block_k];
                        let present = x.len().min(self.fold.block_k);
                        // Stored weight `q` multiplies feature `(q + shift) mod K` of the block.
                        let (head, tail) = a.split_at_mut(self.fold.block_k - shift);
                        add(head, &x[(*shift).min(present)..present], *negative);
                        add(tail, &x[..present.min(*shift)], *negative);
                    }
                }
            },
        );
    }

    /// `x += unfold(a)` for rows `a [rows, w]`, `x [rows, n]`.
    pub(super) fn add_unfolded<E: Scalar>(&self, a: &[E], x: &mut [E]) {
        vectorized(
            #[inline(always)]
            || {
                for (x, a) in x.chunks_exact_mut(self.fold.d_input).zip(a.chunks_exact(self.fold.width())) {
                    for (block, (shift, negative)) in self.rotations.iter().enumerate() {
                        let x = &mut x[block * self.fold.block_k..];
                        let a = &a[block / self.fold.reduction * self.fold.block_k..][..self.fold.block_k];
                        let present = x.len().min(self.fold.block_k);
                        let (head, tail) = a.split_at(self.fold.block_k - shift);
                        add(&mut x[(*shift).min(present)..present], head, *negative);
                        add(&mut x[..present.min(*shift)], tail, *negative);
                    }
                }
            },
        );
    }
}

/// `out ± values`, as far as both go.
#[inline(always)]
fn add<E: Scalar>(out: &mut [E], values: &[E], negative: bool) {
    if negative {
        for (out, value) in out.iter_mut().zip(values) {
            *out -= *value;
        }
    } else {
        for (out, value) in out.iter_mut().zip(values) {
            *out += *value;
        }
    }
}
