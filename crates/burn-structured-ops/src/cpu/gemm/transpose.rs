//! Transposing a matrix, by shuffles of 8 × 8 or 16 × 16 squares where the processor has them.

use crate::cpu::{Matrix, Scalar};
use pulp::Simd;

/// [`transpose`] with the instructions of one processor.
pub(super) struct Transpose<'a, 'b, E> {
    pub matrix: Matrix<'a, E>,
    pub out: &'b mut [E],
    pub stride: usize,
}

impl<E: Scalar> pulp::WithSimd for Transpose<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        transpose::<S, E>(self.matrix, self.out, self.stride);
    }
}

/// Columns that are transposed at a time without shuffles.
const COLUMNS: usize = 8;

/// Writes `matrix [rows, cols]` transposed: element `(i, j)` to `out[j · stride + i]`.
///
/// # Panics
///
/// If `out` is too short.
#[inline(always)]
pub(crate) fn transpose<S: Simd, E: Scalar>(matrix: Matrix<'_, E>, out: &mut [E], stride: usize) {
    // The columns of the transposed matrix are the rows of this one.
    let columns = matrix.transposed();
    let squares = match usize::try_from(columns.col_stride) {
        Ok(_) if columns.row_stride == 1 => Square::available::<S, E>(),
        _ => &[],
    };
    let widest = squares.first().map_or(COLUMNS, |square| square.size());
    let mut first = 0;
    while first < columns.cols {
        let left = columns.cols - first;
        let group = if widest <= left { widest } else { COLUMNS.min(left) };
        let mut k = 0;
        for square in squares.iter().filter(|square| group.is_multiple_of(square.size())) {
            while k + square.size() <= columns.rows {
                for c in (first..first + group).step_by(square.size()) {
                    square.transpose(columns, k, c, &mut out[k * stride + c..], stride);
                }
                k += square.size();
            }
        }
        for k in k..columns.rows {
            for c in first..first + group {
                out[k * stride + c] = columns.at(k, c);
            }
        }
        first += group;
    }
}

/// A square of f32 that is transposed by shuffles. There is none unless the processor has the instructions.
#[derive(Clone, Copy)]
enum Square {
    #[cfg(target_arch = "x86_64")]
    Sixteen,
    #[cfg(target_arch = "x86_64")]
    Eight,
}

impl Square {
    /// Those for matrices of `E`, the larger first, in registers that `S` has.
    #[inline(always)]
    fn available<S: Simd, E: Scalar>() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if E::dtype() == burn::tensor::DType::F32 {
            if S::F32_LANES >= 16 && is_x86_feature_detected!("avx512f") {
                return &[Self::Sixteen, Self::Eight];
            }
            if S::F32_LANES >= 8 && is_x86_feature_detected!("avx") {
                return &[Self::Eight];
            }
        }
        &[]
    }

    /// Its rows and columns.
    #[inline(always)]
    fn size(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Eight => 8,
        }
    }

    /// Transposes the square whose first element is `(row, column)`; columns are contiguous.
    ///
    /// # Panics
    ///
    /// If they are not f32, or not within the matrix or the output.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "elsewhere there is no square"))]
    fn transpose<E: Scalar>(self, columns: Matrix<'_, E>, row: usize, column: usize, out: &mut [E], out_stride: usize) {
        let source: &[f32] = bytemuck::cast_slice(columns.storage_from(row, column));
        let out: &mut [f32] = bytemuck::cast_slice_mut(out);
        let stride = columns.col_stride as usize;
        match self {
            // SAFETY: a square is made only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen => unsafe { avx::transpose_sixteen(source, stride, out, out_stride) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Eight => unsafe { avx::transpose_eight(source, stride, out, out_stride) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::*;

    /// `out[k · out_stride + c] = source[c · stride + k]` for `k` and `c` below 8.
    #[inline]
    #[target_feature(enable = "avx")]
    pub(super) fn transpose_eight(source: &[f32], stride: usize, out: &mut [f32], out_stride: usize) {
        assert!(source.len() > 7 * stride + 7 && out.len() > 7 * out_stride + 7);
        let mut rows = [_mm256_setzero_ps(); 8];
        for (c, row) in rows.iter_mut().enumerate() {
            // The next eight columns are read soon, in short runs that hardware prefetchers do not foresee.
            _mm_prefetch::<_MM_HINT_T0>(source.as_ptr().wrapping_add((8 + c) * stride).cast());
            // SAFETY: `c · stride + 7` lies within `source`, as asserted.
            *row = unsafe { _mm256_loadu_ps(source.as_ptr().add(c * stride)) };
        }
        let [a, b, c, d, e, f, g, h] = rows;
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef_low, ef_high) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh_low, gh_high) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
        // Row k of columns a to d in one half and of e to h in the other; row k + 4 in the upper halves.
        let pairs = [
            (_mm256_shuffle_ps::<0x44>(ab_low, cd_low), _mm256_shuffle_ps::<0x44>(ef_low, gh_low)),
            (_mm256_shuffle_ps::<0xee>(ab_low, cd_low), _mm256_shuffle_ps::<0xee>(ef_low, gh_low)),
            (_mm256_shuffle_ps::<0x44>(ab_high, cd_high), _mm256_shuffle_ps::<0x44>(ef_high, gh_high)),
            (_mm256_shuffle_ps::<0xee>(ab_high, cd_high), _mm256_shuffle_ps::<0xee>(ef_high, gh_high)),
        ];
        for (k, (left, right)) in pairs.into_iter().enumerate() {
            // SAFETY: `(k + 4) · out_stride + 7` lies within `out`, as asserted.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr().add(k * out_stride), _mm256_permute2f128_ps::<0x20>(left, right));
                _mm256_storeu_ps(
                    out.as_mut_ptr().add((k + 4) * out_stride),
                    _mm256_permute2f128_ps::<0x31>(left, right),
                );
            }
        }
    }

    /// The same for `k` and `c` below 16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn transpose_sixteen(source: &[f32], stride: usize, out: &mut [f32], out_stride: usize) {
        assert!(source.len() > 15 * stride + 15 && out.len() > 15 * out_stride + 15);
        let mut rows = [_mm512_setzero_ps(); 16];
        for (c, row) in rows.iter_mut().enumerate() {
            _mm_prefetch::<_MM_HINT_T0>(source.as_ptr().wrapping_add((16 + c) * stride).cast());
            // SAFETY: `c · stride + 15` lies within `source`, as asserted.
            *row = unsafe { _mm512_loadu_ps(source.as_ptr().add(c * stride)) };
        }
        // Of four columns: rows k, k + 4, k + 8 and k + 12 in the four quarters.
        let mut quarters = [[_mm512_setzero_ps(); 4]; 4];
        for (rows, columns) in quarters.iter_mut().zip(rows.chunks_exact(4)) {
            let (ab_low, ab_high) =
                (_mm512_unpacklo_ps(columns[0], columns[1]), _mm512_unpackhi_ps(columns[0], columns[1]));
            let (cd_low, cd_high) =
                (_mm512_unpacklo_ps(columns[2], columns[3]), _mm512_unpackhi_ps(columns[2], columns[3]));
            *rows = [
                _mm512_shuffle_ps::<0x44>(ab_low, cd_low),
                _mm512_shuffle_ps::<0xee>(ab_low, cd_low),
                _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
            ];
        }
        let [a, b, c, d] = quarters;
        for k in 0..4 {
            let (ab_low, ab_high) =
                (_mm512_shuffle_f32x4::<0x44>(a[k], b[k]), _mm512_shuffle_f32x4::<0xee>(a[k], b[k]));
            let (cd_low, cd_high) =
                (_mm512_shuffle_f32x4::<0x44>(c[k], d[k]), _mm512_shuffle_f32x4::<0xee>(c[k], d[k]));
            let rows = [
                _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low),
                _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low),
                _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high),
                _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high),
            ];
            for (quarter, row) in rows.into_iter().enumerate() {
                // SAFETY: `(12 + k) · out_stride + 15` lies within `out`, as asserted.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((4 * quarter + k) * out_stride), row) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::runtime::on_every_instruction_set;

    /// A value that no matrix here holds.
    fn untouched<E: Scalar>() -> E {
        E::ZERO - E::ONE
    }

    #[derive(Clone, Copy)]
    struct Transposed<'a, E>(Matrix<'a, E>, usize);

    impl<E: Scalar> pulp::WithSimd for Transposed<'_, E> {
        type Output = Vec<E>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Vec<E> {
            let mut out = vec![untouched(); self.0.cols * self.1];
            transpose::<S, E>(self.0, &mut out, self.1);
            out
        }
    }

    /// Squares of either size, one after the other, and what is left of them on both sides. Miri has no squares.
    const SIZES: &[(usize, usize)] = if cfg!(miri) {
        &[(1, 1), (8, 8), (5, 16), (11, 9)]
    } else {
        &[(1, 1), (8, 8), (17, 33), (31, 9), (48, 15), (19, 27), (40, 72), (5, 16)]
    };

    fn check<E: Scalar + PartialEq + std::fmt::Debug>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..if cfg!(miri) { 256 } else { 4096 }).map(number).collect();
        for &(rows, cols) in SIZES {
            for matrix in [
                Matrix::row_major(&values, rows, cols, cols + 2),
                Matrix::row_major(&values, cols, rows, rows).transposed(),
                Matrix::row_major(&values, rows, cols, 0),
            ] {
                for out in on_every_instruction_set(Transposed(matrix, rows + 1)) {
                    for (i, j) in (0..=rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                        let value = out[j * (rows + 1) + i];
                        let expected = if i < rows { matrix.at(i, j) } else { untouched() };
                        assert_eq!(value, expected, "{rows} × {cols}: ({i}, {j})");
                    }
                }
            }
        }
    }

    #[test]
    fn transpose_swaps_rows_and_columns() {
        check(|index| index as f32);
        check(|index| index as f64);
    }
}
