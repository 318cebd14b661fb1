//! Rows of a factor, scaled and added up.

use super::{PAIR, ROWS, upcoming};
use crate::cpu::runtime::prefetch::prefetch_line;
use crate::cpu::{Matrix, Scalar, load_at, store_at};
use pulp::Simd;

/// `out[token] = Σ_k x[token · x_stride + k] · row k` for all rows of `factor`, which are contiguous.
pub(crate) struct AxpyRows<'a, E: Scalar> {
    pub x: &'a [E],
    pub x_stride: usize,
    pub factor: Matrix<'a, E>,
    /// The chunk after it, whose beginning is prefetched.
    pub next: Option<Matrix<'a, E>>,
    /// `[tokens, cols]`.
    pub out: &'a mut [E],
}

impl<E: Scalar> pulp::WithSimd for AxpyRows<'_, E> {
    type Output = ();

    /// # Panics
    ///
    /// If `x` is too short.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, x_stride, factor, next, out } = self;
        let (depth, cols) = (factor.rows, factor.cols.max(1));
        let full = depth - depth % ROWS;
        out.fill(E::ZERO);
        for k in (0..full).step_by(ROWS) {
            let rows = std::array::from_fn(|i| factor.row_slice(k + i));
            let ahead = upcoming(factor, next, k + ROWS);
            let x = |token: usize| x[token * x_stride + k..].first_chunk().expect("an element for every row");
            for (pair, out) in out.chunks_mut(PAIR * cols).enumerate() {
                let token = pair * PAIR;
                match out.split_at_mut(cols) {
                    (out, []) => add_rows::<S, E, 1>(simd, [x(token)], rows, [out], ahead),
                    (out, second) => {
                        add_rows::<S, E, PAIR>(simd, [x(token), x(token + 1)], rows, [out, second], ahead);
                    }
                }
            }
        }
        for k in full..depth {
            for (token, out) in out.chunks_mut(cols).enumerate() {
                let x = x[token * x_stride + k];
                for (sum, value) in out.iter_mut().zip(factor.row_slice(k)) {
                    *sum = x.mul_add(*value, *sum);
                }
            }
        }
    }
}

/// Adds the rows, scaled by elements of `x`, for `T` tokens; prefetches as much from `ahead` on.
#[inline(always)]
fn add_rows<S: Simd, E: Scalar, const T: usize>(
    simd: S,
    x: [&[E; ROWS]; T],
    rows: [&[E]; ROWS],
    mut out: [&mut [E]; T],
    ahead: *const E,
) {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && out.iter().all(|out| out.len() == len), "rows of one length");
    let full = len - len % lanes;
    let mut scales = [[E::splat(simd, E::ZERO); ROWS]; T];
    for (scales, x) in scales.iter_mut().zip(x) {
        for (scale, x) in scales.iter_mut().zip(x) {
            *scale = E::splat(simd, *x);
        }
    }
    for c in (0..full).step_by(lanes) {
        let mut values = [E::splat(simd, E::ZERO); ROWS];
        for (i, (value, row)) in values.iter_mut().zip(rows).enumerate() {
            prefetch_line(ahead.wrapping_add(ROWS * c + i * lanes));
            // SAFETY: `c + lanes` is at most `full`, and that is at most the length of every row, as asserted.
            *value = unsafe { load_at::<S, E>(row.as_ptr().add(c)) };
        }
        for (scales, out) in scales.iter().zip(&mut out) {
            // SAFETY: as above.
            unsafe {
                let mut sum = load_at::<S, E>(out.as_ptr().add(c));
                for (scale, value) in scales.iter().zip(values) {
                    sum = E::fused(simd, *scale, value, sum);
                }
                store_at::<S, E>(out.as_mut_ptr().add(c), sum);
            }
        }
    }
    for (x, out) in x.iter().zip(&mut out) {
        for c in full..len {
            for (x, row) in x.iter().zip(rows) {
                out[c] = x.mul_add(row[c], out[c]);
            }
        }
    }
}
