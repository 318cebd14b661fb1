//! The innermost loop: a few rows times one panel, summed in registers.

use super::nr;
use crate::cpu::runtime::prefetch::{AHEAD_TERMS, prefetch};
use crate::cpu::{Scalar, load_at, store_at};
use pulp::Simd;

/// Where the columns of a panel are read: term `k` from `start + k · stride` on.
#[derive(Clone, Copy)]
pub(super) struct Terms<E> {
    pub start: *const E,
    pub stride: usize,
}

impl<E: Scalar> Terms<E> {
    /// Those from `term` on.
    ///
    /// # Safety
    ///
    /// They must be readable.
    #[inline(always)]
    pub unsafe fn from(self, term: usize) -> Self {
        // SAFETY: as the caller says.
        Self { start: unsafe { self.start.add(term * self.stride) }, ..self }
    }
}

/// Where a copy of the terms goes, one after the other in a panel.
#[derive(Clone, Copy)]
pub(super) struct PackDestination<E>(pub *mut E);

impl<E: Scalar> PackDestination<E> {
    pub fn none() -> Self {
        Self(std::ptr::null_mut())
    }

    /// The place of those from `term` on.
    #[inline(always)]
    pub fn from<S: Simd>(self, term: usize) -> Self {
        Self(self.0.wrapping_add(term * nr::<S, E>()))
    }
}

/// `sums += rows · panel` for `R` rows and the first `V` vectors of a panel, which it copies on the way if `COPY`.
///
/// Term `k` of row `i` is `rows[i · row_stride + k]`.
///
/// # Safety
///
/// `rows` must be readable for all `R` rows of `terms` elements, `source` for `terms` times `V` vectors, and if `COPY`, `packed_to` must
/// be writable for as many terms of a panel.
#[inline(always)]
pub(super) unsafe fn microkernel<S: Simd, E: Scalar, const R: usize, const V: usize, const COPY: bool>(
    simd: S,
    rows: *const E,
    row_stride: usize,
    terms: usize,
    source: Terms<E>,
    packed_to: PackDestination<E>,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let mut k = 0;
    // Of every row two terms at a time: where rows drive each other out of the first-level cache, half as often.
    if S::REGISTER_COUNT >= 32 {
        while terms - k >= 2 {
            // SAFETY: as the caller says.
            unsafe { microkernel_step::<S, E, R, V, 2, COPY>(simd, rows, row_stride, k, source, packed_to, sums) };
            k += 2;
        }
    }
    for k in k..terms {
        // SAFETY: as the caller says.
        unsafe { microkernel_step::<S, E, R, V, 1, COPY>(simd, rows, row_stride, k, source, packed_to, sums) };
    }
}

/// Terms `first .. first + K` of a [`tile`].
///
/// # Safety
///
/// As [`tile`], of which these terms must be some.
#[inline(always)]
unsafe fn microkernel_step<S: Simd, E: Scalar, const R: usize, const V: usize, const K: usize, const COPY: bool>(
    simd: S,
    rows: *const E,
    row_stride: usize,
    first: usize,
    source: Terms<E>,
    packed_to: PackDestination<E>,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let lanes = E::lanes::<S>();
    let mut values = [[E::splat(simd, E::ZERO); V]; K];
    for (k, values) in values.iter_mut().enumerate() {
        let k = first + k;
        if COPY {
            prefetch(source.start.wrapping_add((k + AHEAD_TERMS) * source.stride), V * lanes);
        }
        for (v, value) in values.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `V` vectors of each term.
            unsafe {
                *value = load_at::<S, E>(source.start.add(k * source.stride + v * lanes));
                if COPY {
                    store_at::<S, E>(packed_to.0.add(k * nr::<S, E>() + v * lanes), *value);
                }
            }
        }
    }
    for (i, sums) in sums.iter_mut().enumerate() {
        for (k, values) in values.iter().enumerate() {
            // SAFETY: the caller vouches for these terms of `R` rows.
            let factor = E::splat(simd, unsafe { *rows.add(i * row_stride + first + k) });
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = E::fused(simd, factor, *value, *sum);
            }
        }
    }
}
