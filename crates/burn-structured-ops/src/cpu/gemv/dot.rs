//! Rows of a factor times vectors of as many elements.

use super::{PAIR, ROWS, upcoming};
use crate::cpu::gemm::Target;
use crate::cpu::runtime::prefetch::prefetch_line;
use crate::cpu::{Matrix, Scalar, load_at};
use pulp::Simd;

/// `y[token, i] = t[token · t_stride ..] · row i`, through the epilogue of `y`, for all rows of `factor`, which are contiguous.
pub(crate) struct DotRows<'a, E: Scalar> {
    pub t: &'a [E],
    pub t_stride: usize,
    pub factor: Matrix<'a, E>,
    /// The chunk after it, whose beginning is prefetched.
    pub next: Option<Matrix<'a, E>>,
    /// A row for each token and a column for each row of the factor.
    pub y: Target<'a, E>,
}

impl<E: Scalar> pulp::WithSimd for DotRows<'_, E> {
    type Output = ();

    /// # Panics
    ///
    /// If `t` is too short, or `y` has other columns than the factor has rows.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { t, t_stride, factor, next, y } = self;
        let (tokens, depth) = (y.rows, factor.cols);
        assert_eq!(factor.rows, y.cols, "a column for every row");
        let t = |token: usize| &t[token * t_stride..][..depth];
        for row in (0..factor.rows).step_by(ROWS) {
            let rows = ROWS.min(factor.rows - row);
            let values = std::array::from_fn(|i| factor.row_slice(row + i.min(rows - 1)));
            let y = y.cols(row, rows);
            let ahead = upcoming(factor, next, row + ROWS);
            let mut token = 0;
            while tokens - token >= PAIR {
                let sums = dots::<S, E, PAIR, 1>(simd, [t(token), t(token + 1)], values, ahead);
                for (i, sums) in sums.iter().enumerate() {
                    y.store_partial_tile(token + i, &sums[..rows]);
                }
                token += PAIR;
            }
            if token < tokens {
                let [sums] = dots::<S, E, 1, 2>(simd, [t(token)], values, ahead);
                y.store_partial_tile(token, &sums[..rows]);
            }
        }
    }
}

/// `T` rows `t` times each of the rows, `V` vectors at a time; prefetches as much from `ahead` on.
#[inline(always)]
fn dots<S: Simd, E: Scalar, const T: usize, const V: usize>(
    simd: S,
    t: [&[E]; T],
    rows: [&[E]; ROWS],
    ahead: *const E,
) -> [[E; ROWS]; T] {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && t.iter().all(|t| t.len() == len), "rows of one length");
    let full = len - len % (V * lanes);
    // Two sums for every row, of two tokens or of two halves of one, so that an addition need not wait for the one before.
    let mut sums = [[[E::splat(simd, E::ZERO); V]; ROWS]; T];
    for k in (0..full).step_by(V * lanes) {
        for v in 0..V {
            let k = k + v * lanes;
            let mut factors = [E::splat(simd, E::ZERO); T];
            for (factor, t) in factors.iter_mut().zip(t) {
                // SAFETY: `k + lanes` is at most `full`, and that is at most the length of every row, as asserted.
                *factor = unsafe { load_at::<S, E>(t.as_ptr().add(k)) };
            }
            for (i, row) in rows.iter().enumerate() {
                prefetch_line(ahead.wrapping_add(ROWS * k + i * lanes));
                // SAFETY: as above.
                let value = unsafe { load_at::<S, E>(row.as_ptr().add(k)) };
                for (sums, factor) in sums.iter_mut().zip(factors) {
                    sums[i][v] = E::fused(simd, factor, value, sums[i][v]);
                }
            }
        }
    }
    let mut dots = [[E::ZERO; ROWS]; T];
    for ((dots, sums), t) in dots.iter_mut().zip(sums).zip(t) {
        for ((dot, sums), row) in dots.iter_mut().zip(sums).zip(rows) {
            for sum in sums {
                *dot += E::sum(simd, sum);
            }
            for k in full..len {
                *dot = t[k].mul_add(row[k], *dot);
            }
        }
    }
    dots
}
