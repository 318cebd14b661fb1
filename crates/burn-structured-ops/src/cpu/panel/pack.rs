//! Bringing a strip of a factor into panels.

use super::ahead::{AHEAD_TERMS, prefetch};
use super::width;
use crate::cpu::{Matrix, Scalar, load, store};
use pulp::Simd;

/// Rows and columns of the square blocks that are transposed at a time: the larger first.
const SQUARES: [usize; 2] = [16, 8];

/// Writes `factor [terms, cols]` into `cols.div_ceil(width)` panels of `terms · width` elements.
///
/// Either axis of the factor may be the contiguous one; both have a fast path.
///
/// # Panics
///
/// If `panels` is not as long as that.
#[inline(always)]
pub(super) fn pack<S: Simd, E: Scalar>(factor: Matrix<'_, E>, panels: &mut [E]) {
    let width = width::<S, E>();
    let terms = factor.rows;
    assert_eq!(panels.len(), factor.cols.div_ceil(width) * terms * width, "room for every panel");
    if terms == 0 {
        return;
    }
    for (index, panel) in panels.chunks_exact_mut(terms * width).enumerate() {
        let first = index * width;
        let strip = factor.cols(first, width.min(factor.cols - first));
        if strip.col_stride == 1 && strip.cols == width {
            pack_rows::<S, E>(strip, panel);
        } else if strip.row_stride == 1 {
            pack_columns::<S, E>(strip, panel);
        } else {
            for (k, terms) in panel.chunks_exact_mut(width).enumerate() {
                for (c, value) in terms.iter_mut().enumerate() {
                    *value = if c < strip.cols { strip.at(k, c) } else { E::ZERO };
                }
            }
        }
    }
}

/// A full strip whose rows are contiguous.
#[inline(always)]
fn pack_rows<S: Simd, E: Scalar>(strip: Matrix<'_, E>, panel: &mut [E]) {
    let width = width::<S, E>();
    for (k, terms) in panel.chunks_exact_mut(width).enumerate() {
        if k + AHEAD_TERMS < strip.rows {
            prefetch(strip.row_slice(k + AHEAD_TERMS).as_ptr(), width);
        }
        // Fixed sizes, or each row would be a call of `memcpy`.
        let (row, lanes) = (strip.row_slice(k), E::lanes::<S>());
        for half in [0, lanes] {
            store::<S, E>(&mut terms[half..], load::<S, E>(&row[half..]));
        }
    }
}

/// A strip, possibly narrower than a panel, whose columns are contiguous.
#[inline(always)]
fn pack_columns<S: Simd, E: Scalar>(strip: Matrix<'_, E>, panel: &mut [E]) {
    let width = width::<S, E>();
    transpose::<S, E>(strip.transposed(), panel, width);
    if strip.cols < width {
        for terms in panel.chunks_exact_mut(width) {
            terms[strip.cols..].fill(E::ZERO);
        }
    }
}

/// Writes `matrix [rows, cols]` transposed: element `(i, j)` to `out[j · stride + i]`.
///
/// # Panics
///
/// If `out` is too short.
#[inline(always)]
pub(crate) fn transpose<S: Simd, E: Scalar>(matrix: Matrix<'_, E>, out: &mut [E], stride: usize) {
    // The columns of the transposed matrix are the rows of this one.
    let columns = matrix.transposed();
    let mut first = 0;
    while first < columns.cols {
        let left = columns.cols - first;
        let square = SQUARES.into_iter().find(|square| *square <= left.min(S::F32_LANES)).unwrap_or(1);
        let mut k = 0;
        if square > 1 && columns.row_stride == 1 {
            while k + square <= columns.rows
                && transpose_square::<S, E>(square, columns, k, first, &mut out[k * stride + first..], stride)
            {
                k += square;
            }
        }
        for k in k..columns.rows {
            for c in first..first + square {
                out[k * stride + c] = columns.at(k, c);
            }
        }
        first += square;
    }
}

/// As many columns of as many contiguous terms by shuffles, where there is an implementation; `false` where there is none.
#[inline(always)]
fn transpose_square<S: Simd, E: Scalar>(
    square: usize,
    strip: Matrix<'_, E>,
    k: usize,
    column: usize,
    out: &mut [E],
    out_stride: usize,
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(stride) = strip.col_stride.try_into().ok().filter(|stride| *stride > 0)
        && let Ok(source) = bytemuck::try_cast_slice::<E, f32>(strip.column_onwards(k, column))
        && let Ok(out) = bytemuck::try_cast_slice_mut::<E, f32>(out)
        && size_of::<E>() == size_of::<f32>()
    {
        // SAFETY: only instruction sets with AVX have eight f32 lanes on this architecture, and only those with AVX-512 sixteen.
        unsafe {
            match square {
                16 if S::F32_LANES >= 16 => avx::transpose_sixteen(source, stride, out, out_stride),
                8 if S::F32_LANES >= 8 => avx::transpose_eight(source, stride, out, out_stride),
                _ => return false,
            }
        }
        return true;
    }
    false
}

#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::*;

    /// `out[k · width + c] = source[c · stride + k]` for `k` and `c` below 8.
    #[inline]
    #[target_feature(enable = "avx")]
    pub(super) fn transpose_eight(source: &[f32], stride: usize, out: &mut [f32], width: usize) {
        assert!(source.len() > 7 * stride + 7 && out.len() > 7 * width + 7);
        let mut rows = [_mm256_setzero_ps(); 8];
        for (c, row) in rows.iter_mut().enumerate() {
            // The next eight columns are read soon, in short runs that the processor does not foresee.
            _mm_prefetch::<_MM_HINT_T0>(source.as_ptr().wrapping_add((8 + c) * stride).cast());
            // SAFETY: `c · stride + 7` lies within `source`, as asserted.
            *row = unsafe { _mm256_loadu_ps(source.as_ptr().add(c * stride)) };
        }
        let [a, b, c, d, e, f, g, h] = rows;
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef_low, ef_high) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh_low, gh_high) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
        // Term k of columns a to d in one half and of e to h in the other; term k + 4 in the upper halves.
        let terms = [
            (_mm256_shuffle_ps::<0x44>(ab_low, cd_low), _mm256_shuffle_ps::<0x44>(ef_low, gh_low)),
            (_mm256_shuffle_ps::<0xee>(ab_low, cd_low), _mm256_shuffle_ps::<0xee>(ef_low, gh_low)),
            (_mm256_shuffle_ps::<0x44>(ab_high, cd_high), _mm256_shuffle_ps::<0x44>(ef_high, gh_high)),
            (_mm256_shuffle_ps::<0xee>(ab_high, cd_high), _mm256_shuffle_ps::<0xee>(ef_high, gh_high)),
        ];
        for (k, (left, right)) in terms.into_iter().enumerate() {
            // SAFETY: `(k + 4) · width + 7` lies within `out`, as asserted.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr().add(k * width), _mm256_permute2f128_ps::<0x20>(left, right));
                _mm256_storeu_ps(out.as_mut_ptr().add((k + 4) * width), _mm256_permute2f128_ps::<0x31>(left, right));
            }
        }
    }

    /// The same for `k` and `c` below 16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn transpose_sixteen(source: &[f32], stride: usize, out: &mut [f32], width: usize) {
        assert!(source.len() > 15 * stride + 15 && out.len() > 15 * width + 15);
        let mut rows = [_mm512_setzero_ps(); 16];
        for (c, row) in rows.iter_mut().enumerate() {
            _mm_prefetch::<_MM_HINT_T0>(source.as_ptr().wrapping_add((16 + c) * stride).cast());
            // SAFETY: `c · stride + 15` lies within `source`, as asserted.
            *row = unsafe { _mm512_loadu_ps(source.as_ptr().add(c * stride)) };
        }
        // Of four columns: terms k, k + 4, k + 8 and k + 12 in the four quarters.
        let mut quarters = [[_mm512_setzero_ps(); 4]; 4];
        for (terms, columns) in quarters.iter_mut().zip(rows.chunks_exact(4)) {
            let (ab_low, ab_high) =
                (_mm512_unpacklo_ps(columns[0], columns[1]), _mm512_unpackhi_ps(columns[0], columns[1]));
            let (cd_low, cd_high) =
                (_mm512_unpacklo_ps(columns[2], columns[3]), _mm512_unpackhi_ps(columns[2], columns[3]));
            *terms = [
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
            let terms = [
                _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low),
                _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low),
                _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high),
                _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high),
            ];
            for (quarter, term) in terms.into_iter().enumerate() {
                // SAFETY: `(12 + k) · width + 15` lies within `out`, as asserted.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((4 * quarter + k) * width), term) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pack<'a, E>(Matrix<'a, E>);

    impl<E: Scalar> pulp::WithSimd for Pack<'_, E> {
        type Output = (Vec<E>, usize);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            let width = width::<S, E>();
            let mut panels = vec![E::NAN; self.0.cols.div_ceil(width) * self.0.rows * width];
            pack::<S, E>(self.0, &mut panels);
            (panels, width)
        }
    }

    fn check<E: Scalar + PartialEq>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..4096).map(number).collect();
        for (terms, cols) in [(1, 1), (7, 16), (8, 15), (16, 33), (9, 40), (31, 17)] {
            let by_row = Matrix::row_major(&values, terms, cols, cols + 3);
            let by_column = Matrix::row_major(&values, cols, terms, terms + 1).transposed();
            for factor in [by_row, by_column, Matrix::row_major(&values, terms, 2 * cols, 2 * cols).every_col(1, 2)] {
                let (panels, width) = pulp::Arch::new().dispatch(Pack(factor));
                for (index, value) in panels.into_iter().enumerate() {
                    let (k, c) = (index / width % terms, index / (width * terms) * width + index % width);
                    let expected = if c < cols { factor.at(k, c) } else { E::ZERO };
                    assert!(
                        value == expected,
                        "{terms} × {cols}, strides {}, {}: ({k}, {c})",
                        factor.row_stride,
                        factor.col_stride
                    );
                }
            }
        }
    }

    struct Transpose<'a, E>(Matrix<'a, E>, usize);

    impl<E: Scalar> pulp::WithSimd for Transpose<'_, E> {
        type Output = Vec<E>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Vec<E> {
            let mut out = vec![E::NAN; self.0.cols * self.1];
            transpose::<S, E>(self.0, &mut out, self.1);
            out
        }
    }

    #[test]
    fn a_transposed_matrix_has_rows_and_columns_exchanged() {
        let values: Vec<f32> = (0..4096).map(|index| index as f32).collect();
        for (rows, cols) in [(1, 1), (8, 8), (17, 33), (31, 9)] {
            for matrix in [
                Matrix::row_major(&values, rows, cols, cols + 2),
                Matrix::row_major(&values, cols, rows, rows).transposed(),
            ] {
                let out = pulp::Arch::new().dispatch(Transpose(matrix, rows + 1));
                for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                    assert_eq!(out[j * (rows + 1) + i], matrix.at(i, j), "{rows} × {cols}: ({i}, {j})");
                }
            }
        }
    }

    #[test]
    fn every_element_is_in_its_place_and_missing_columns_are_zero() {
        check(|index| index as f32);
        check(|index| index as f64);
    }
}
