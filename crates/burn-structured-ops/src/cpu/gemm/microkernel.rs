//! The micro-kernel: a few rows times one panel, summed in registers.

use super::nr;
use crate::cpu::runtime::prefetch::{PREFETCH_DEPTH, prefetch};
use crate::cpu::{Scalar, load_at, store_at};
use pulp::Simd;

/// Adds `rows · panel` to `sums`, for `R` rows and the first `V` vectors of a panel, over a depth of `depth`.
///
/// Element `k` of row `i` is `rows[i · row_stride + k]`, and the panel's elements of depth `k` begin at `panel[k · panel_stride]`.
/// With `PACK`, they are copied to `packed[k · NR ..]` as well ("fused packing").
///
/// # Safety
///
/// `rows` must be readable for `R` rows of `depth` elements and `panel` for `depth` times `V` vectors. With `PACK`, `packed` must be
/// writable for `depth` times `NR` elements.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn microkernel<S: Simd, E: Scalar, const R: usize, const V: usize, const PACK: bool>(
    simd: S,
    rows: *const E,
    row_stride: usize,
    depth: usize,
    panel: *const E,
    panel_stride: usize,
    packed: *mut E,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let mut k = 0;
    // Two elements of every row at a time: rows that alias in the L1 cache are fetched half as often.
    if S::REGISTER_COUNT >= 32 {
        while depth - k >= 2 {
            // SAFETY: as the caller says.
            unsafe { step::<S, E, R, V, 2, PACK>(simd, rows, row_stride, k, panel, panel_stride, packed, sums) };
            k += 2;
        }
    }
    for k in k..depth {
        // SAFETY: as the caller says.
        unsafe { step::<S, E, R, V, 1, PACK>(simd, rows, row_stride, k, panel, panel_stride, packed, sums) };
    }
}

/// Depths `first .. first + K` of a [`microkernel`].
///
/// # Safety
///
/// As [`microkernel`], for these depths.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn step<S: Simd, E: Scalar, const R: usize, const V: usize, const K: usize, const PACK: bool>(
    simd: S,
    rows: *const E,
    row_stride: usize,
    first: usize,
    panel: *const E,
    panel_stride: usize,
    packed: *mut E,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let lanes = E::lanes::<S>();
    let mut values = [[E::splat(simd, E::ZERO); V]; K];
    for (k, values) in values.iter_mut().enumerate() {
        let k = first + k;
        if PACK {
            // Each depth may be in a page of its own, which hardware prefetchers do not foresee.
            prefetch(panel.wrapping_add((k + PREFETCH_DEPTH) * panel_stride), V * lanes);
        }
        for (v, value) in values.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `V` vectors of each depth, and for as many places in `packed`.
            unsafe {
                *value = load_at::<S, E>(panel.add(k * panel_stride + v * lanes));
                if PACK {
                    store_at::<S, E>(packed.add(k * nr::<S, E>() + v * lanes), *value);
                }
            }
        }
    }
    for (i, sums) in sums.iter_mut().enumerate() {
        for (k, values) in values.iter().enumerate() {
            // SAFETY: the caller vouches for these elements of `R` rows.
            let factor = E::splat(simd, unsafe { *rows.add(i * row_stride + first + k) });
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = E::fused(simd, factor, *value, *sum);
            }
        }
    }
}
