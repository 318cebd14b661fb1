//! Packing a factor into panels.

use super::{nr, transpose};
use crate::cpu::runtime::prefetch::{PREFETCH_DEPTH, prefetch};
use crate::cpu::{Matrix, Scalar, load, store};
use pulp::Simd;

/// [`pack`] with the instructions of this processor.
///
/// # Panics
///
/// If `panels` is not `⌈cols / NR⌉ · depth · NR` long.
pub(crate) fn pack_panels<E: Scalar>(factor: Matrix<'_, E>, panels: &mut [E]) {
    struct Pack<'a, 'b, E>(Matrix<'a, E>, &'b mut [E]);

    impl<E: Scalar> pulp::WithSimd for Pack<'_, '_, E> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            pack::<S, E>(self.0, self.1);
        }
    }

    pulp::Arch::new().dispatch(Pack(factor, panels));
}

/// Packs `factor [depth, cols]` into panels: element `(k, c)` of one at `k · NR + c`; missing columns of the last panel are zero.
///
/// Either axis of the factor may be the contiguous one; both have a fast path.
///
/// # Panics
///
/// If `panels` is not `⌈cols / NR⌉ · depth · NR` long.
#[inline(always)]
pub(super) fn pack<S: Simd, E: Scalar>(factor: Matrix<'_, E>, panels: &mut [E]) {
    let nr = nr::<S, E>();
    let depth = factor.rows;
    assert_eq!(panels.len(), factor.cols.div_ceil(nr) * depth * nr, "room for every panel");
    if depth == 0 {
        return;
    }
    for (index, panel) in panels.chunks_exact_mut(depth * nr).enumerate() {
        let first = index * nr;
        let columns = factor.cols(first, nr.min(factor.cols - first));
        if columns.col_stride == 1 && columns.cols == nr {
            pack_rows::<S, E>(columns, panel);
        } else if columns.row_stride == 1 {
            pack_columns::<S, E>(columns, panel);
        } else {
            for (k, values) in panel.chunks_exact_mut(nr).enumerate() {
                for (c, value) in values.iter_mut().enumerate() {
                    *value = if c < columns.cols { columns.at(k, c) } else { E::ZERO };
                }
            }
        }
    }
}

/// A whole panel of contiguous rows.
#[inline(always)]
fn pack_rows<S: Simd, E: Scalar>(columns: Matrix<'_, E>, panel: &mut [E]) {
    let (nr, lanes) = (nr::<S, E>(), E::lanes::<S>());
    for (k, values) in panel.chunks_exact_mut(nr).enumerate() {
        if k + PREFETCH_DEPTH < columns.rows {
            prefetch(columns.row_slice(k + PREFETCH_DEPTH).as_ptr(), nr);
        }
        // Vectors instead of `copy_from_slice`, which would call `memcpy` for every row.
        let row = columns.row_slice(k);
        for half in [0, lanes] {
            store::<S, E>(&mut values[half..], load::<S, E>(&row[half..]));
        }
    }
}

/// A panel of contiguous columns, possibly fewer than it holds.
#[inline(always)]
fn pack_columns<S: Simd, E: Scalar>(columns: Matrix<'_, E>, panel: &mut [E]) {
    let nr = nr::<S, E>();
    transpose::<S, E>(columns.transposed(), panel, nr);
    if columns.cols < nr {
        panel.chunks_exact_mut(nr).for_each(|values| values[columns.cols..].fill(E::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::runtime::on_every_instruction_set;

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

    /// Depth and columns: whole panels and partial ones, of 2 columns under Miri.
    const SIZES: &[(usize, usize)] =
        if cfg!(miri) { &[(1, 1), (7, 4), (9, 5)] } else { &[(1, 1), (7, 16), (8, 15), (16, 33), (9, 40), (31, 17)] };

    fn check<E: Scalar + PartialEq>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..if cfg!(miri) { 128 } else { 4096 }).map(number).collect();
        for &(depth, cols) in SIZES {
            let by_row = Matrix::row_major(&values, depth, cols, cols + 3);
            let by_column = Matrix::row_major(&values, cols, depth, depth + 1).transposed();
            for factor in [by_row, by_column, Matrix::row_major(&values, depth, 2 * cols, 2 * cols).every_col(1, 2)] {
                for (panels, nr) in on_every_instruction_set(Pack(factor)) {
                    for (index, value) in panels.into_iter().enumerate() {
                        let (k, c) = (index / nr % depth, index / (nr * depth) * nr + index % nr);
                        let expected = if c < cols { factor.at(k, c) } else { E::ZERO };
                        let strides = [factor.row_stride, factor.col_stride];
                        assert!(value == expected, "{depth} × {cols}, strides {strides:?}, {nr} wide: ({k}, {c})");
                    }
                }
            }
        }
    }

    #[test]
    fn pack_places_every_element_and_pads_with_zeros() {
        check(|index| index as f32);
        check(|index| index as f64);
    }
}
