//! The kernels: a cube that computes one tile of one batch's product, and a unit that computes a smaller one by itself.

use super::fold::{FoldSizes, RotationKind, folded, unfolded};
use cubecl::prelude::*;

/// What the elements of an operand are, given its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// The tensor's own.
    Strided,
    /// The sketch of the tensor's rows by the rotations of the output block that is the batch.
    Folded(RotationKind),
    /// The same sketch, transposed.
    FoldedTransposed(RotationKind),
    /// `[m, n]` with tied weights, of which the tensor `[w, m]` stores each once.
    Tied(RotationKind),
}

/// How a product is cut: fixed when the kernel is compiled.
///
/// A cube of `units_m × units_n` units computes a tile of `units_m · rows` by `units_n · cols`, each unit `rows × cols`
/// elements that lie `units_m` and `units_n` apart, so that neighbouring units work on neighbouring columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) units_m: usize,
    pub(super) units_n: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Terms of the sum that are in shared memory at a time.
    pub(super) depth: usize,
    /// Whether neighbouring units load along the summed axis of the left operand, because it is the contiguous one.
    pub(super) lhs_along_depth: bool,
    /// As [`lhs_along_depth`](Self::lhs_along_depth), for the right operand.
    pub(super) rhs_along_depth: bool,
}

impl Tile {
    pub(super) fn units(&self) -> usize {
        self.units_m * self.units_n
    }

    pub(super) fn height(&self) -> usize {
        self.units_m * self.rows
    }

    pub(super) fn width(&self) -> usize {
        self.units_n * self.cols
    }
}

/// Elements between neighbours of a batch of matrices.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Strides {
    pub(super) batch: usize,
    pub(super) row: usize,
    pub(super) col: usize,
}

/// `out_b = lhs_b rhs_b` for `[m, k] × [k, n]`, at any strides; `A` is the type sums are kept in.
///
/// The batches may be the blocks of one matrix of `all_cols` columns, of which the last has fewer than `n`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn tiled_gemm_kernel<T: Float, A: Float>(
    lhs: &Tensor<T>,
    rhs: &Tensor<T>,
    out: &mut Tensor<T>,
    lhs_strides: &Strides,
    rhs_strides: &Strides,
    out_strides: &Strides,
    m: usize,
    n: usize,
    k: usize,
    all_cols: usize,
    cubes: usize,
    fold: &FoldSizes,
    #[comptime] tile: Tile,
    #[comptime] operands: [Operand; 2],
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let (height, width, depth) = comptime!((tile.height(), tile.width(), tile.depth));
    let across = n.div_ceil(width);
    let down = m.div_ceil(height);
    let first_col = (CUBE_POS % across) * width;
    let first_row = (CUBE_POS / across % down) * height;
    let batch = CUBE_POS / (across * down);
    let cols = min(n, all_cols - batch * n);

    let unit = UNIT_POS as usize;
    let unit_col = unit % comptime!(tile.units_n);
    let unit_row = unit / comptime!(tile.units_n);

    let mut lhs_tile = Shared::<[A]>::new_slice(comptime!(height * depth));
    let mut rhs_tile = Shared::<[A]>::new_slice(comptime!(width * depth));
    let mut sums = Array::<A>::new(comptime!(tile.rows * tile.cols));
    #[unroll]
    for i in 0..comptime!(tile.rows * tile.cols) {
        sums[i] = A::new(0.0);
    }

    let steps = k.div_ceil(depth);
    for step in 0..steps {
        let first_term = step * depth;
        load::<T, A>(
            lhs,
            &mut lhs_tile,
            lhs_strides,
            fold,
            batch,
            first_row,
            first_term,
            m,
            k,
            comptime!(operands[0]),
            false,
            height,
            depth,
            comptime!(tile.units()),
            comptime!(tile.lhs_along_depth),
        );
        load::<T, A>(
            rhs,
            &mut rhs_tile,
            rhs_strides,
            fold,
            batch,
            first_col,
            first_term,
            cols,
            k,
            comptime!(operands[1]),
            true,
            width,
            depth,
            comptime!(tile.units()),
            comptime!(tile.rhs_along_depth),
        );
        sync_cube();
        for term in 0..depth {
            let mut row_values = Array::<A>::new(comptime!(tile.rows));
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                row_values[i] = lhs_tile[term * height + unit_row + i * comptime!(tile.units_m)];
            }
            #[unroll]
            for j in 0..comptime!(tile.cols) {
                let value = rhs_tile[term * width + unit_col + j * comptime!(tile.units_n)];
                #[unroll]
                for i in 0..comptime!(tile.rows) {
                    sums[i * comptime!(tile.cols) + j] += row_values[i] * value;
                }
            }
        }
        sync_cube();
    }

    #[unroll]
    for i in 0..comptime!(tile.rows) {
        #[unroll]
        for j in 0..comptime!(tile.cols) {
            let row = first_row + unit_row + i * comptime!(tile.units_m);
            let col = first_col + unit_col + j * comptime!(tile.units_n);
            if row < m && col < cols {
                out[batch * out_strides.batch + row * out_strides.row + col * out_strides.col] =
                    T::cast_from(sums[i * comptime!(tile.cols) + j]);
            }
        }
    }
}

/// The same product without shared memory: each unit computes `rows × cols` neighbouring elements out of the cache.
///
/// For processors that pose as GPUs. There, a barrier between units costs more than sharing saves, and shared memory is
/// not to be relied on: the SPIR-V that CubeCL 0.11 emits for it is malformed where the device lacks
/// `VK_KHR_workgroup_memory_explicit_layout`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn direct_gemm_kernel<T: Float, A: Float>(
    lhs: &Tensor<T>,
    rhs: &Tensor<T>,
    out: &mut Tensor<T>,
    lhs_strides: &Strides,
    rhs_strides: &Strides,
    out_strides: &Strides,
    m: usize,
    n: usize,
    k: usize,
    all_cols: usize,
    units: usize,
    fold: &FoldSizes,
    #[comptime] rows: usize,
    #[comptime] cols: usize,
    #[comptime] operands: [Operand; 2],
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let across = n.div_ceil(cols);
    let down = m.div_ceil(rows);
    let first_col = (ABSOLUTE_POS % across) * cols;
    let first_row = (ABSOLUTE_POS / across % down) * rows;
    let batch = ABSOLUTE_POS / (across * down);
    let end_col = min(n, all_cols - batch * n);
    // The last block of a matrix may have no columns as far right as this.
    if first_col >= end_col {
        terminate!();
    }

    let mut sums = Array::<A>::new(comptime!(rows * cols));
    #[unroll]
    for i in 0..comptime!(rows * cols) {
        sums[i] = A::new(0.0);
    }
    for term in 0..k {
        let mut row_values = Array::<A>::new(rows);
        #[unroll]
        for i in 0..rows {
            // Beyond the edge, the last row is computed again and not stored.
            let row = min(first_row + i, m - 1);
            row_values[i] = element::<T, A>(lhs, lhs_strides, fold, batch, row, term, comptime!(operands[0]));
        }
        #[unroll]
        for j in 0..cols {
            let col = min(first_col + j, end_col - 1);
            let value = element::<T, A>(rhs, rhs_strides, fold, batch, term, col, comptime!(operands[1]));
            #[unroll]
            for i in 0..rows {
                sums[i * cols + j] += row_values[i] * value;
            }
        }
    }
    #[unroll]
    for i in 0..rows {
        #[unroll]
        for j in 0..cols {
            let (row, col) = (first_row + i, first_col + j);
            if row < m && col < end_col {
                out[batch * out_strides.batch + row * out_strides.row + col * out_strides.col] =
                    T::cast_from(sums[i * cols + j]);
            }
        }
    }
}

/// Brings `extent × depth` elements into shared memory, `depth` slices of `extent` neighbours; zero beyond the matrix.
///
/// The terms of the sums lie along the rows of the matrix if `terms_down`, else along its columns.
#[cube]
fn load<T: Float, A: Float>(
    matrix: &Tensor<T>,
    tile: &mut Shared<[A]>,
    strides: &Strides,
    fold: &FoldSizes,
    batch: usize,
    first: usize,
    first_term: usize,
    end: usize,
    terms: usize,
    #[comptime] operand: Operand,
    #[comptime] terms_down: bool,
    #[comptime] extent: usize,
    #[comptime] depth: usize,
    #[comptime] units: usize,
    #[comptime] along_depth: bool,
) {
    #[unroll]
    for turn in 0..comptime!((extent * depth).div_ceil(units)) {
        let index = UNIT_POS as usize + turn * units;
        if index < comptime!(extent * depth) {
            let along = if comptime!(along_depth) { index / depth } else { index % extent };
            let term = if comptime!(along_depth) { index % depth } else { index / extent };
            let (position, position_term) = (first + along, first_term + term);
            let mut value = A::new(0.0);
            if position < end && position_term < terms {
                value = if comptime!(terms_down) {
                    element::<T, A>(matrix, strides, fold, batch, position_term, position, operand)
                } else {
                    element::<T, A>(matrix, strides, fold, batch, position, position_term, operand)
                };
            }
            tile[term * extent + along] = value;
        }
    }
}

/// Element `(row, col)` of an operand.
#[cube]
fn element<T: Float, A: Float>(
    matrix: &Tensor<T>,
    strides: &Strides,
    fold: &FoldSizes,
    batch: usize,
    row: usize,
    col: usize,
    #[comptime] operand: Operand,
) -> A {
    match operand {
        Operand::Strided => A::cast_from(matrix[batch * strides.batch + row * strides.row + col * strides.col]),
        Operand::Folded(kind) => folded::<T, A>(matrix, row * strides.row, strides.col, col, batch, fold, kind),
        Operand::FoldedTransposed(kind) => {
            folded::<T, A>(matrix, col * strides.row, strides.col, row, batch, fold, kind)
        }
        Operand::Tied(kind) => {
            unfolded::<T, A>(matrix, row * strides.col, strides.row, col, row / fold.block_n, fold, kind)
        }
    }
}
