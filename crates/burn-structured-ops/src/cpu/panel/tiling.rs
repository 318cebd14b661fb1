//! How rows are cut into tiles, and how often a tile pauses to ask for what comes next.

use super::{Rows, tile_rows, width};
use crate::cpu::Scalar;
use pulp::Simd;

/// Rows of a tile at most if they [compete](competes): a first-level cache has eight or more lines in a place.
const COMPETING_ROWS: usize = 8;
/// Bytes after which the places of a first-level cache begin anew.
pub(super) const PLACES_BYTES: usize = 4096;

/// Pauses of the product of these rows with so many columns, to ask for what comes next.
#[inline(always)]
pub(crate) fn steps<S: Simd, E: Scalar>(rows: Rows<'_, E>, cols: usize) -> usize {
    rows.count.div_ceil(tile_of::<S, E>(rows)) * cols.div_ceil(width::<S, E>()) * rows.terms.div_ceil(step::<S>())
}

/// Terms of a tile between two pauses: about two hundred cycles. A processor asks for a few lines meanwhile, but many at once
/// hold it up.
#[inline(always)]
pub(super) fn step<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 32 }
}

/// Rows of the tiles that `rows` are taken in as long as there are so many.
#[inline(always)]
pub(crate) fn tile_of<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let most = if competes(rows) { COMPETING_ROWS } else { usize::MAX };
    tile_rows::<S>().min(most)
}

/// Whether the rows lie so far apart that all have the same place in a first-level cache, and more of them than it has lines there
/// drive each other out.
#[inline(always)]
pub(super) fn competes<E: Scalar>(rows: Rows<'_, E>) -> bool {
    rows.row_stride > 0 && (rows.row_stride * size_of::<E>()).is_multiple_of(PLACES_BYTES)
}
