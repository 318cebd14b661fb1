//! Loads of an operand into shared memory, and the swizzled layout there.

use super::tiling::{Contiguous, PLANE, Side, TILE_K, VECTOR};
use cubecl::prelude::*;

/// The vectors of an operand at which this unit's share of the first tile begins; beyond the end of the other axis, the last ones.
#[cube]
pub(super) fn starts(
    start: usize,
    across_stride: usize,
    k_stride: usize,
    first: usize,
    end: usize,
    #[comptime] side: Side,
) -> Array<usize> {
    let mut at = Array::<usize>::new(comptime!(side.each()));
    #[unroll]
    for turn in 0..comptime!(side.each()) {
        let index = UNIT_POS as usize + turn * comptime!(side.units);
        let (across, kk) = vector_start(index, side);
        let last = if comptime!(side.contiguous == Contiguous::Depth) { end - 1 } else { end - VECTOR };
        at[turn] = (start + min(first + across, last) * across_stride + kk * k_stride) / VECTOR;
    }
    at
}

/// Reads this unit's share of the next tile of an operand, zeros beyond `k`, and advances to the one after it.
#[cube]
pub(super) fn fetch<T: Float, N: Size>(
    matrix: &Tensor<Vector<T, N>>,
    values: &mut Array<Vector<T, N>>,
    at: &mut Array<usize>,
    step: usize,
    first_k: usize,
    k: usize,
    #[comptime] side: Side,
) {
    if first_k + comptime!(side.depth) <= k {
        #[unroll]
        for turn in 0..comptime!(side.each()) {
            values[turn] = matrix[at[turn]];
            at[turn] += step;
        }
    } else {
        #[unroll]
        for turn in 0..comptime!(side.each()) {
            let (_, kk) = vector_start(UNIT_POS as usize + turn * comptime!(side.units), side);
            let mut value = Vector::<T, N>::new(T::new(0.0));
            if first_k + kk < k {
                value = matrix[at[turn]];
            }
            values[turn] = value;
        }
    }
}

/// Stores to shared memory what [`fetch`] has read.
#[cube]
pub(super) fn store<T: Float, N: Size>(
    values: &Array<Vector<T, N>>,
    stage: &mut Shared<[Vector<T, N>]>,
    start: usize,
    #[comptime] side: Side,
) {
    #[unroll]
    for turn in 0..comptime!(side.each()) {
        let index = UNIT_POS as usize + turn * comptime!(side.units);
        let (across, kk) = vector_start(index, side);
        stage[start + staged(across, kk, side)] = values[turn];
    }
}

/// Where in a tile of `extent` by [`Tiling::depth`] vector `index` begins: across, and along the depth.
#[cube]
fn vector_start(index: usize, #[comptime] side: Side) -> (usize, usize) {
    if comptime!(side.contiguous == Contiguous::Depth) {
        let vectors = comptime!(side.depth / VECTOR);
        (index / vectors, index % vectors * VECTOR)
    } else {
        let vectors = comptime!(side.extent / VECTOR);
        (index % vectors * VECTOR, index / vectors)
    }
}

/// The vector of shared memory in which the element `(across, kk)` of a tile lies.
///
/// Eight neighbouring rows are read at once, one vector of each. Vectors are permuted from row to row (swizzled), so that these
/// are in different banks.
#[cube]
fn staged(across: usize, kk: usize, #[comptime] side: Side) -> usize {
    if comptime!(side.contiguous == Contiguous::Depth) {
        let vectors = comptime!(side.depth / VECTOR);
        // Rows of 128 bytes share their banks; of shorter ones, every second or fourth does.
        across * vectors + ((kk / VECTOR) ^ (across / comptime!(8 / vectors) % vectors))
    } else {
        let vectors = comptime!(side.extent / VECTOR);
        kk * vectors + ((across / VECTOR) ^ (kk % 8))
    }
}

/// An element of a tile.
#[cube]
pub(super) fn element<T: Float, N: Size>(
    stages: &Shared<[Vector<T, N>]>,
    stage: usize,
    across: usize,
    kk: usize,
    #[comptime] side: Side,
) -> T {
    let along = if comptime!(side.contiguous == Contiguous::Depth) { kk } else { across };
    let vector = stage * comptime!(side.vectors()) + staged(across, kk, side);
    stages.with_vector_size::<Const<1>>()[vector * VECTOR + along % VECTOR].extract(0usize)
}

/// The vector that this unit of a plane addresses when the plane loads the left tile at `row` and depth tile `part`.
#[cube]
pub(super) fn lhs_position(row: usize, #[comptime] part: usize, #[comptime] side: Side) -> usize {
    let lane = UNIT_POS as usize % PLANE;
    // Four matrices of eight by eight: the rows first, then the depth.
    let (matrix, line) = (lane / 8, lane % 8);
    if comptime!(side.contiguous == Contiguous::Depth) {
        staged(row + matrix % 2 * 8 + line, part * TILE_K + matrix / 2 * 8, side)
    } else {
        staged(row + matrix % 2 * 8, part * TILE_K + matrix / 2 * 8 + line, side)
    }
}

/// The same for two neighbouring right tiles at `col`.
#[cube]
pub(super) fn rhs_position(col: usize, #[comptime] part: usize, #[comptime] side: Side) -> usize {
    let lane = UNIT_POS as usize % PLANE;
    // Four matrices of eight by eight: the depth first, then the columns.
    let (matrix, line) = (lane / 8, lane % 8);
    if comptime!(side.contiguous == Contiguous::Depth) {
        staged(col + matrix / 2 * 8 + line, part * TILE_K + matrix % 2 * 8, side)
    } else {
        staged(col + matrix / 2 * 8, part * TILE_K + matrix % 2 * 8 + line, side)
    }
}
