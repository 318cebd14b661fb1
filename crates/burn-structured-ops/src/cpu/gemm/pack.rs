//! Bringing a strip of a factor into panels.

use super::{nr, transpose};
use crate::cpu::runtime::prefetch::{AHEAD_TERMS, prefetch};
use crate::cpu::{Matrix, Scalar, load, store};
use pulp::Simd;

/// Writes `factor [terms, cols]` into `cols.div_ceil(nr)` panels of `terms · nr` elements.
///
/// Either axis of the factor may be the contiguous one; both have a fast path.
///
/// # Panics
///
/// If `panels` is not as long as that.
#[inline(always)]
pub(super) fn pack<S: Simd, E: Scalar>(factor: Matrix<'_, E>, panels: &mut [E]) {
    let nr = nr::<S, E>();
    let terms = factor.rows;
    assert_eq!(panels.len(), factor.cols.div_ceil(nr) * terms * nr, "room for every panel");
    if terms == 0 {
        return;
    }
    for (index, panel) in panels.chunks_exact_mut(terms * nr).enumerate() {
        let first = index * nr;
        let strip = factor.cols(first, nr.min(factor.cols - first));
        if strip.col_stride == 1 && strip.cols == nr {
            pack_rows::<S, E>(strip, panel);
        } else if strip.row_stride == 1 {
            pack_columns::<S, E>(strip, panel);
        } else {
            for (k, terms) in panel.chunks_exact_mut(nr).enumerate() {
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
    let nr = nr::<S, E>();
    for (k, terms) in panel.chunks_exact_mut(nr).enumerate() {
        if k + AHEAD_TERMS < strip.rows {
            prefetch(strip.row_slice(k + AHEAD_TERMS).as_ptr(), nr);
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
    let nr = nr::<S, E>();
    transpose::<S, E>(strip.transposed(), panel, nr);
    if strip.cols < nr {
        for terms in panel.chunks_exact_mut(nr) {
            terms[strip.cols..].fill(E::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::runtime::on_every_processor;

    #[derive(Clone, Copy)]
    struct Pack<'a, E>(Matrix<'a, E>);

    impl<E: Scalar> pulp::WithSimd for Pack<'_, E> {
        type Output = (Vec<E>, usize);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            let nr = nr::<S, E>();
            let mut panels = vec![E::NAN; self.0.cols.div_ceil(nr) * self.0.rows * nr];
            pack::<S, E>(self.0, &mut panels);
            (panels, nr)
        }
    }

    fn check<E: Scalar + PartialEq>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..4096).map(number).collect();
        for (terms, cols) in [(1, 1), (7, 16), (8, 15), (16, 33), (9, 40), (31, 17)] {
            let by_row = Matrix::row_major(&values, terms, cols, cols + 3);
            let by_column = Matrix::row_major(&values, cols, terms, terms + 1).transposed();
            for factor in [by_row, by_column, Matrix::row_major(&values, terms, 2 * cols, 2 * cols).every_col(1, 2)] {
                for (panels, nr) in on_every_processor(Pack(factor)) {
                    for (index, value) in panels.into_iter().enumerate() {
                        let (k, c) = (index / nr % terms, index / (nr * terms) * nr + index % nr);
                        let expected = if c < cols { factor.at(k, c) } else { E::ZERO };
                        let strides = [factor.row_stride, factor.col_stride];
                        assert!(value == expected, "{terms} × {cols}, strides {strides:?}, {nr} wide: ({k}, {c})");
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
