//! Bringing a strip of a factor into panels.

use super::prefetch::{AHEAD_TERMS, prefetch};
use super::{transpose, width};
use crate::cpu::{Matrix, Scalar, load, store};
use pulp::Simd;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::on_every_processor;

    #[derive(Clone, Copy)]
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
                for (panels, width) in on_every_processor(Pack(factor)) {
                    for (index, value) in panels.into_iter().enumerate() {
                        let (k, c) = (index / width % terms, index / (width * terms) * width + index % width);
                        let expected = if c < cols { factor.at(k, c) } else { E::ZERO };
                        let strides = [factor.row_stride, factor.col_stride];
                        assert!(value == expected, "{terms} × {cols}, strides {strides:?}, {width} wide: ({k}, {c})");
                    }
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
