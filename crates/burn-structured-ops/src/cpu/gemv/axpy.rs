//! Rows of a factor, scaled and added up.

use super::{Lines, PAIR, ROWS, StreamPrefetcher};
use crate::cpu::gemm::SharedOutput;
use crate::cpu::{Matrix, Scalar, load_at, store_at};
use pulp::Simd;

/// `out[offset + token · stride ..] = Σ_k x[token · x_stride + k] · row k` of the rows of `factor`, whose elements are neighbours; `next`
/// is asked for after them.
///
/// Whoever makes one is alone with these elements of `out`, which are a slice's or have been written, and no two tokens have the same.
pub(crate) struct SumRows<'a, E: Scalar> {
    pub tokens: usize,
    pub x: &'a [E],
    pub x_stride: usize,
    pub factor: Matrix<'a, E>,
    pub next: Option<Matrix<'a, E>>,
    pub out: SharedOutput<'a, E>,
    pub offset: usize,
    pub stride: usize,
}

impl<E: Scalar> pulp::WithSimd for SumRows<'_, E> {
    type Output = ();

    /// # Panics
    ///
    /// If `x` or the output are too short.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, x, x_stride, factor, next, out, offset, stride } = self;
        let (terms, cols) = (factor.rows, factor.cols);
        for token in 0..tokens {
            // SAFETY: as whoever makes this says.
            unsafe { out.slice(offset + token * stride, cols) }.fill(E::ZERO);
        }
        let out = |token: usize| {
            // SAFETY: as whoever makes this says, and no two slices of one token live at a time.
            unsafe { out.slice(offset + token * stride, cols) }
        };
        let full = terms - terms % ROWS;
        let mut onwards = StreamPrefetcher::new(factor, next, tokens);
        for k in (0..full).step_by(ROWS) {
            let rows = std::array::from_fn(|i| factor.row_slice(k + i));
            let x = |token: usize| x[token * x_stride + k..].first_chunk().expect("as many elements as rows");
            let prefetch_steps = tokens.div_ceil(PAIR) * (cols / E::lanes::<S>());
            let mut ahead = onwards.during(k..k + ROWS, prefetch_steps);
            let mut token = 0;
            while tokens - token >= PAIR {
                add_rows::<S, E, PAIR>(simd, [x(token), x(token + 1)], rows, [out(token), out(token + 1)], &mut ahead);
                token += PAIR;
            }
            if token < tokens {
                add_rows::<S, E, 1>(simd, [x(token)], rows, [out(token)], &mut ahead);
            }
        }
        for k in full..terms {
            for token in 0..tokens {
                let x = x[token * x_stride + k];
                for (sum, value) in out(token).iter_mut().zip(factor.row_slice(k)) {
                    *sum = x.mul_add(*value, *sum);
                }
            }
        }
    }
}

/// Adds up the rows, scaled by elements of `x`, for `T` tokens, a step of `ahead` for each vector.
#[inline(always)]
fn add_rows<S: Simd, E: Scalar, const T: usize>(
    simd: S,
    x: [&[E; ROWS]; T],
    rows: [&[E]; ROWS],
    mut z: [&mut [E]; T],
    ahead: &mut Lines,
) {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && z.iter().all(|z| z.len() == len), "rows of one length");
    let full = len - len % lanes;
    let mut scales = [[E::splat(simd, E::ZERO); ROWS]; T];
    for (scales, x) in scales.iter_mut().zip(x) {
        for (scale, x) in scales.iter_mut().zip(x) {
            *scale = E::splat(simd, *x);
        }
    }
    for c in (0..full).step_by(lanes) {
        ahead.fetch();
        let mut values = [E::splat(simd, E::ZERO); ROWS];
        for (value, row) in values.iter_mut().zip(rows) {
            // SAFETY: `c + lanes` is at most `full`, and that is at most the length of every row, as asserted.
            *value = unsafe { load_at::<S, E>(row.as_ptr().add(c)) };
        }
        for (scales, z) in scales.iter().zip(&mut z) {
            // SAFETY: as above.
            unsafe {
                let mut sum = load_at::<S, E>(z.as_ptr().add(c));
                for (scale, value) in scales.iter().zip(values) {
                    sum = E::fused(simd, *scale, value, sum);
                }
                store_at::<S, E>(z.as_mut_ptr().add(c), sum);
            }
        }
    }
    for (x, z) in x.iter().zip(&mut z) {
        for c in full..len {
            for (x, row) in x.iter().zip(rows) {
                z[c] = x.mul_add(row[c], z[c]);
            }
        }
    }
}
