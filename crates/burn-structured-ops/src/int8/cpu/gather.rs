//! Where the inputs of a product come from: features in place, in strided order, coupled, or folded into a sketch.

use super::quantize::Gather;
use crate::cpu::Scalar;
use crate::ss1::{Fold, FoldPlan, doubled};

/// Groups of neighbouring features of rows of `n`, in place.
pub(super) struct Neighbours<'a> {
    pub x: &'a [f32],
    pub n: usize,
}

impl Gather for Neighbours<'_> {
    #[inline(always)]
    fn features<'a>(&'a self, _: &'a [f32], token: usize, group: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        &self.x[token * self.n + group * buffer.len()..][..buffer.len()]
    }
}

/// Groups of every `groups`-th feature of rows of `n`.
pub(super) struct Strided<'a> {
    pub x: &'a [f32],
    pub n: usize,
    pub groups: usize,
}

impl Gather for Strided<'_> {
    #[inline(always)]
    fn features<'a>(&'a self, _: &'a [f32], token: usize, group: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        let row = &self.x[token * self.n..][..self.n];
        for (feature, value) in buffer.iter_mut().zip(row[group..].iter().step_by(self.groups)) {
            *feature = *value;
        }
        buffer
    }
}

/// `Σ_j s_ij ∘ z_j` for rows `z [b2, r]` of `between` features and couplings `s [b1, b2, r]`.
pub(super) struct Coupled<'a> {
    pub z: &'a [f32],
    pub s: &'a [f32],
    pub between: usize,
}

/// Features whose sums stay in registers.
const COUPLED: usize = 32;

impl Gather for Coupled<'_> {
    #[inline(always)]
    fn features<'a>(&'a self, _: &'a [f32], token: usize, group: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        let z = &self.z[token * self.between..][..self.between];
        let s = &self.s[group * self.between..][..self.between];
        let r = buffer.len();
        if r < COUPLED {
            buffer.fill(0.0);
            for (z, s) in z.chunks_exact(r).zip(s.chunks_exact(r)) {
                add_products(z, s, buffer);
            }
            return buffer;
        }
        for start in (0..r).step_by(COUPLED) {
            // The last ones overlap with those before.
            let start = start.min(r - COUPLED);
            let mut sums = [0.0; COUPLED];
            for (z, s) in z.chunks_exact(r).zip(s.chunks_exact(r)) {
                add_products(&z[start..][..COUPLED], &s[start..][..COUPLED], &mut sums);
            }
            buffer[start..][..COUPLED].copy_from_slice(&sums);
        }
        buffer
    }
}

#[inline(always)]
fn add_products(z: &[f32], s: &[f32], sums: &mut [f32]) {
    for (sum, (z, s)) in sums.iter_mut().zip(z.iter().zip(s)) {
        *sum = Scalar::mul_add(*z, *s, *sum);
    }
}

/// The sketch of each block of output rows, for rows of `fold.d_input` features.
pub(super) struct Folded<'a> {
    pub x: &'a [f32],
    pub fold: Fold,
    /// One for each block.
    pub plans: &'a [FoldPlan],
}

impl Gather for Folded<'_> {
    /// Where a token has several sketches, they are folded from one doubled row.
    fn prepared_len(&self) -> usize {
        if self.plans.len() > 1 { doubled::width(self.fold) } else { 0 }
    }

    #[inline(always)]
    fn prepare(&self, token: usize, prepared: &mut [f32]) {
        if self.plans.len() > 1 {
            doubled::double(self.fold, &self.x[token * self.fold.d_input..][..self.fold.d_input], prepared);
        }
    }

    #[inline(always)]
    fn features<'a>(&'a self, prepared: &'a [f32], token: usize, group: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        match self.plans {
            [plan] => plan.fold(&self.x[token * self.fold.d_input..][..self.fold.d_input], buffer),
            plans => plans[group].fold_doubled(prepared, buffer),
        }
        buffer
    }
}
