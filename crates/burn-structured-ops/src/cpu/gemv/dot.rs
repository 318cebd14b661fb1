//! Rows of a factor times vectors of as many elements.

use super::{Lines, PAIR, ROWS, StreamPrefetcher};
use crate::cpu::gemm::SharedOutput;
use crate::cpu::{Matrix, Scalar, load_at};
use pulp::Simd;

/// `y[offset + token · stride + i] = t[token · t_stride ..] · row i + bias[i]` for the rows of `factor`, whose elements are neighbours;
/// `next` is asked for after them.
///
/// # Safety
///
/// Nothing else may access these elements of `y` meanwhile.
///
/// # Panics
///
/// If `t`, the bias or the output are too short.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn dot_rows<S: Simd, E: Scalar>(
    simd: S,
    tokens: usize,
    t: &[E],
    t_stride: usize,
    factor: Matrix<'_, E>,
    next: Option<Matrix<'_, E>>,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
    offset: usize,
    stride: usize,
) {
    let terms = factor.cols;
    let mut onwards = StreamPrefetcher::new(factor, next, tokens);
    let mut row = 0;
    while row < factor.rows {
        let rows = ROWS.min(factor.rows - row);
        let mut values = [factor.row_slice(row); ROWS];
        for (i, value) in values[..rows].iter_mut().enumerate() {
            *value = factor.row_slice(row + i);
        }
        let prefetch_steps =
            tokens / PAIR * (terms / E::lanes::<S>()) + tokens % PAIR * (terms / (2 * E::lanes::<S>()));
        let write = |token: usize, sums: [E; ROWS]| {
            // SAFETY: as the caller says.
            let y = unsafe { y.uninit_slice(offset + token * stride + row, rows) };
            for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                y.write(bias.map_or(sum, |bias| sum + bias[row + i]));
            }
        };
        let t = |token: usize| &t[token * t_stride..][..terms];
        let mut ahead = onwards.during(row..row + rows, prefetch_steps);
        let mut token = 0;
        while tokens - token >= PAIR {
            let sums = dots::<S, E, PAIR, 1>(simd, [t(token), t(token + 1)], values, &mut ahead);
            sums.into_iter().enumerate().for_each(|(i, sums)| write(token + i, sums));
            token += PAIR;
        }
        if token < tokens {
            let [sums] = dots::<S, E, 1, 2>(simd, [t(token)], values, &mut ahead);
            write(token, sums);
        }
        row += rows;
    }
}

/// `T` rows `t` times each of the rows, `V` vectors at a time, a step of `ahead` for each time.
#[inline(always)]
fn dots<S: Simd, E: Scalar, const T: usize, const V: usize>(
    simd: S,
    t: [&[E]; T],
    rows: [&[E]; ROWS],
    ahead: &mut Lines,
) -> [[E; ROWS]; T] {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && t.iter().all(|t| t.len() == len), "rows of one length");
    let full = len - len % (V * lanes);
    // Two sums for every row, of two tokens or of two halves of one, so that an addition need not wait for the one before.
    let mut sums = [[[E::splat(simd, E::ZERO); V]; ROWS]; T];
    for k in (0..full).step_by(V * lanes) {
        ahead.fetch();
        for v in 0..V {
            let k = k + v * lanes;
            let mut factors = [E::splat(simd, E::ZERO); T];
            for (factor, t) in factors.iter_mut().zip(t) {
                // SAFETY: `k + lanes` is at most `full`, and that is at most the length of every row, as asserted.
                *factor = unsafe { load_at::<S, E>(t.as_ptr().add(k)) };
            }
            for (i, row) in rows.iter().enumerate() {
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
