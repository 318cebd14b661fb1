//! The innermost loop: a few rows times one panel, summed in registers.

use crate::cpu::{Scalar, load_at};
use pulp::Simd;

/// `sums += rows · panel` for `R` rows and the first `V` vectors of a panel.
///
/// Term `k` of row `i` is `rows[i · row_stride + k]`, term `k` of the panel starts at `panel[k · panel_stride]`.
///
/// # Safety
///
/// `rows` must be readable for all `R` rows of `terms` elements, `panel` for `terms` times `V` vectors.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, E: Scalar, const R: usize, const V: usize>(
    simd: S,
    rows: *const E,
    row_stride: usize,
    terms: usize,
    panel: *const E,
    panel_stride: usize,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    for k in 0..terms {
        let mut values = [E::splat(simd, E::ZERO); V];
        for (v, value) in values.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `terms` times `V` vectors.
            *value = unsafe { load_at::<S, E>(panel.add(k * panel_stride + v * E::lanes::<S>())) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `terms` elements of `R` rows.
            let factor = E::splat(simd, unsafe { *rows.add(i * row_stride + k) });
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = E::fused(simd, factor, value, *sum);
            }
        }
    }
}
