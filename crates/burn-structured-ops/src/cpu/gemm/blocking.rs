//! Block sizes, from the caches and the number of threads.
//!
//! As in BLIS, `MR × NR` is the register tile, `KC` the depth of a packed block and `NC` its width. There is no `MC`: rows are read in
//! place, a tile of them at a time.

use super::{Rows, mr, shape};
use crate::cpu::Scalar;
use gemm_common::cache::CACHE_INFO;
use pulp::Simd;

/// Depth of a packed block at most: `MR` rows of it take half of a 48 KiB L1 cache in f32. (Miri, for which every product has to be
/// small, has small blocks, so that small products have several of them.)
const KC: usize = if cfg!(miri) { 8 } else { 512 };
/// Bytes of a packed block at the least and at the most, …
const BLOCK_BYTES: [usize; 2] = if cfg!(miri) { [64, 256] } else { [160 << 10, 512 << 10] };
/// … and in between the share of the L2 cache that it takes.
const L2_SHARE: usize = 4;
/// Tasks a thread should have, so that no thread waits long for the last one.
const TASKS_PER_THREAD: usize = if cfg!(miri) { 2 } else { 8 };
/// Ways of an L1 cache: so many rows that alias in it fit.
const L1_WAYS: usize = 8;
/// Bytes between addresses that alias to the same L1 set: 64 sets of 64 bytes.
pub(crate) const L1_SET_STRIDE: usize = if cfg!(miri) { 128 } else { 4096 };

/// The largest of as few chunks of `all` as there can be of at most `most`: as even as possible.
pub(crate) fn balanced_chunk(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most).max(1))
}

/// Tasks that all threads together should have.
pub(crate) fn tasks_wanted() -> usize {
    TASKS_PER_THREAD * rayon::current_num_threads()
}

/// Depth of a packed block of a factor of so much depth.
pub(super) fn kc(depth: usize) -> usize {
    balanced_chunk(depth, KC)
}

/// Width of a packed block of that depth, in whole panels, of so many columns: as even as possible.
pub(super) fn nc<E: Scalar>(depth: usize, cols: usize) -> usize {
    let (nr, _) = shape::<E>();
    let [least, most] = BLOCK_BYTES;
    let bytes = (CACHE_INFO[1].cache_bytes / L2_SHARE).clamp(least, most);
    let longest = (bytes / (depth.max(1) * nr * size_of::<E>())).clamp(1, cols.div_ceil(nr)) * nr;
    balanced_chunk(cols, longest).next_multiple_of(nr)
}

/// Rows of the tiles that `rows` are taken in as long as there are so many.
#[inline(always)]
pub(super) fn tile_rows<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    if aliases_in_l1(rows) { mr::<S>().min(L1_WAYS) } else { mr::<S>() }
}

/// Rows of the tile that packs a factor: the largest of which there are enough, or zero.
#[inline(always)]
pub(super) fn packing_rows<S: Simd, E: Scalar>(rows: Rows<'_, E>) -> usize {
    let largest = tile_rows::<S, E>(rows);
    [largest, largest.min(L1_WAYS)].into_iter().find(|tile| *tile <= rows.count).unwrap_or(0)
}

/// Whether all rows alias to the same sets of an L1 cache, so that more of them than it has ways evict each other.
#[inline(always)]
pub(super) fn aliases_in_l1<E: Scalar>(rows: Rows<'_, E>) -> bool {
    stride_aliases_in_l1::<E>(rows.row_stride)
}

/// The same of rows that are so many elements apart.
#[inline(always)]
pub(crate) fn stride_aliases_in_l1<E: Scalar>(row_stride: usize) -> bool {
    row_stride > 0 && (row_stride * size_of::<E>()).is_multiple_of(L1_SET_STRIDE)
}
