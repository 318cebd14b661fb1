//! How rows are cut into tiles, and how often a tile pauses to ask for what comes next.

use super::{Rows, tile_rows, width};
use crate::cpu::Scalar;
use pulp::Simd;

/// Rows of a tile at most if they [compete](competes): the first-level caches of x86-64 have eight or more lines in a place.
const COMPETING_ROWS: usize = 8;
/// Bytes after which the places of these caches begin anew.
pub(crate) const PLACES_BYTES: usize = 4096;

/// The largest of as few shares of `all` as there can be of at most `most`: as even as possible.
pub(crate) fn even_share(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most).max(1))
}

/// Pauses of the product of these rows with so many columns, to ask for what comes next.
#[inline(always)]
pub(crate) fn steps<S: Simd, E: Scalar>(rows: Rows<'_, E>, cols: usize) -> usize {
    rows.count.div_ceil(tile_of::<S, E>(rows))
        * cols.div_ceil(width::<S, E>())
        * rows.terms.div_ceil(terms_between_pauses::<S>())
}

/// Terms of a tile between two pauses: about two hundred cycles of the largest. A processor asks for a few lines meanwhile, but
/// many at once hold it up.
#[inline(always)]
pub(super) fn terms_between_pauses<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 32 }
}

/// Rows of the tiles that `rows` are taken in as long as there are so many.
#[inline(always)]
pub(crate) fn tile_of<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let most = if competes(rows) { COMPETING_ROWS } else { usize::MAX };
    tile_rows::<S>().min(most)
}

/// Rows of the first tile, which packs the factor on its way: as many as those after it, or as a smaller one has that there are
/// enough for; zero if there are too few.
#[inline(always)]
pub(super) fn packing_tile_of<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let largest = tile_of::<S, E>(rows);
    [largest, largest.min(COMPETING_ROWS)].into_iter().find(|tile| *tile <= rows.count).unwrap_or(0)
}

/// Whether the rows lie so far apart that all have the same place in a first-level cache, and more of them than it has lines there
/// drive each other out.
#[inline(always)]
pub(super) fn competes<E: Scalar>(rows: Rows<'_, E>) -> bool {
    competing_stride::<E>(rows.row_stride)
}

/// The same of rows that lie so many elements apart.
#[inline(always)]
pub(crate) fn competing_stride<E: Scalar>(row_stride: usize) -> bool {
    row_stride > 0 && (row_stride * size_of::<E>()).is_multiple_of(PLACES_BYTES)
}
