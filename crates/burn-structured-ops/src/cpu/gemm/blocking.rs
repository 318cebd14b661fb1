//! How rows are cut into tiles, and how often a tile pauses to ask for what comes next.

use super::{Rows, mr, nr};
use crate::cpu::Scalar;
use pulp::Simd;

/// Rows of a tile at most if they [compete](aliases_in_l1): the first-level caches of x86-64 have eight or more lines in a place.
const L1_WAYS: usize = 8;
/// Bytes after which the places of these caches begin anew.
pub(crate) const L1_SET_STRIDE: usize = 4096;

/// The largest of as few shares of `all` as there can be of at most `most`: as even as possible.
pub(crate) fn balanced_chunk(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most).max(1))
}

/// Pauses of the product of these rows with so many columns, to ask for what comes next.
#[inline(always)]
pub(crate) fn prefetch_steps<S: Simd, E: Scalar>(rows: Rows<'_, E>, cols: usize) -> usize {
    rows.count.div_ceil(tile_of::<S, E>(rows))
        * cols.div_ceil(nr::<S, E>())
        * rows.terms.div_ceil(prefetch_interval::<S>())
}

/// Terms of a tile between two pauses: about two hundred cycles of the largest. A processor asks for a few lines meanwhile, but
/// many at once hold it up.
#[inline(always)]
pub(super) fn prefetch_interval<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 32 }
}

/// Rows of the tiles that `rows` are taken in as long as there are so many.
#[inline(always)]
pub(crate) fn tile_of<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let most = if aliases_in_l1(rows) { L1_WAYS } else { usize::MAX };
    mr::<S>().min(most)
}

/// Rows of the first tile, which packs the factor on its way: as many as those after it, or as a smaller one has that there are
/// enough for; zero if there are too few.
#[inline(always)]
pub(super) fn packing_tile_of<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let largest = tile_of::<S, E>(rows);
    [largest, largest.min(L1_WAYS)].into_iter().find(|tile| *tile <= rows.count).unwrap_or(0)
}

/// Whether the rows lie so far deinterleave that all have the same place in a first-level cache, and more of them than it has lines there
/// drive each other out.
#[inline(always)]
pub(super) fn aliases_in_l1<E: Scalar>(rows: Rows<'_, E>) -> bool {
    stride_aliases_in_l1::<E>(rows.row_stride)
}

/// The same of rows that lie so many elements deinterleave.
#[inline(always)]
pub(crate) fn stride_aliases_in_l1<E: Scalar>(row_stride: usize) -> bool {
    row_stride > 0 && (row_stride * size_of::<E>()).is_multiple_of(L1_SET_STRIDE)
}
