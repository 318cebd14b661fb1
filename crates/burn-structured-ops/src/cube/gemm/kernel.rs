//! The GEMM kernels: tiled (a cube for each tile) and direct (a unit for each smaller tile, without shared memory).

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

/// The tile of a cube: fixed when the kernel is compiled.
///
/// A cube of `units_m × units_n` units computes a tile of `units_m · rows` by `units_n · cols`, each unit `rows × cols`
/// elements that lie `units_m` and `units_n` apart, so that neighbouring units work on neighbouring columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    pub(crate) units_m: usize,
    pub(crate) units_n: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Depth of a step through shared memory.
    pub(crate) depth: usize,
    pub(crate) lhs: Loading,
    pub(crate) rhs: Loading,
}

/// How an operand is loaded into shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Loading {
    /// Whether neighbouring units load along the summed axis, because it is the contiguous one.
    pub(crate) along_depth: bool,
    /// Elements that a unit loads at a time, along the same axis.
    pub(crate) vector: usize,
}

impl Tile {
    pub(crate) fn units(&self) -> usize {
        self.units_m * self.units_n
    }

    pub(crate) fn height(&self) -> usize {
        self.units_m * self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.units_n * self.cols
    }
}

/// Elements between neighbours of a batch of matrices.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// `out_b = lhs_b rhs_b` for `[m, k] × [k, n]`, at any strides; `A` is the type sums are kept in.
///
/// The batches may be the blocks of one matrix of `all_cols` columns, of which the last has fewer than `n`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn tiled_gemm_kernel<T: Float, A: Float, L: Size, R: Size>(
    lhs: &Tensor<Vector<T, L>>,
    rhs: &Tensor<Vector<T, R>>,
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
        let first_k = step * depth;
        load::<T, A, L>(
            lhs,
            &mut lhs_tile,
            lhs_strides,
            fold,
            batch,
            first_row,
            first_k,
            m,
            k,
            comptime!(operands[0]),
            false,
            height,
            depth,
            comptime!(tile.units()),
            comptime!(tile.lhs),
        );
        load::<T, A, R>(
            rhs,
            &mut rhs_tile,
            rhs_strides,
            fold,
            batch,
            first_col,
            first_k,
            cols,
            k,
            comptime!(operands[1]),
            true,
            width,
            depth,
            comptime!(tile.units()),
            comptime!(tile.rhs),
        );
        sync_cube();
        add_product::<A>(&lhs_tile, &rhs_tile, &mut sums, unit_row, unit_col, tile);
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
/// For CPUs, and software GPUs that run on them. There, a barrier between units costs more than sharing saves, and shared memory is
/// not to be relied on: the SPIR-V that CubeCL 0.11 emits for it is malformed where the device lacks
/// `VK_KHR_workgroup_memory_explicit_layout`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn direct_gemm_kernel<T: Float, A: Float, V: Size>(
    lhs: &Tensor<Vector<T, V>>,
    rhs: &Tensor<Vector<T, V>>,
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
    for kk in 0..k {
        let mut row_values = Array::<A>::new(rows);
        #[unroll]
        for i in 0..rows {
            // Beyond the edge, the last row is computed again and not stored.
            let row = min(first_row + i, m - 1);
            row_values[i] = element::<T, A, V>(lhs, lhs_strides, fold, batch, row, kk, comptime!(operands[0]));
        }
        #[unroll]
        for j in 0..cols {
            let col = min(first_col + j, end_col - 1);
            let value = element::<T, A, V>(rhs, rhs_strides, fold, batch, kk, col, comptime!(operands[1]));
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

/// Adds the product of the two tiles in shared memory to the sums of one unit.
#[cube]
pub(crate) fn add_product<A: Float>(
    lhs_tile: &Shared<[A]>,
    rhs_tile: &Shared<[A]>,
    sums: &mut Array<A>,
    unit_row: usize,
    unit_col: usize,
    #[comptime] tile: Tile,
) {
    let (height, width) = comptime!((tile.height(), tile.width()));
    for kk in 0..comptime!(tile.depth) {
        let mut row_values = Array::<A>::new(comptime!(tile.rows));
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            row_values[i] = lhs_tile[kk * height + unit_row + i * comptime!(tile.units_m)];
        }
        #[unroll]
        for j in 0..comptime!(tile.cols) {
            let value = rhs_tile[kk * width + unit_col + j * comptime!(tile.units_n)];
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                sums[i * comptime!(tile.cols) + j] += row_values[i] * value;
            }
        }
    }
}

/// [`load`] of a matrix's own elements.
#[cube]
pub(crate) fn load_strided<T: Float, A: Float, N: Size>(
    matrix: &Tensor<Vector<T, N>>,
    tile: &mut Shared<[A]>,
    strides: &Strides,
    batch: usize,
    first: usize,
    first_k: usize,
    end: usize,
    k: usize,
    #[comptime] k_down: bool,
    #[comptime] extent: usize,
    #[comptime] depth: usize,
    #[comptime] units: usize,
    #[comptime] loading: Loading,
) {
    let unfolded = FoldSizes { d_input: 0, reduction: 1, block_k: 1, block_n: 1, key: 0 };
    load::<T, A, N>(
        matrix,
        tile,
        strides,
        &unfolded,
        batch,
        first,
        first_k,
        end,
        k,
        Operand::Strided,
        k_down,
        extent,
        depth,
        units,
        loading,
    );
}

/// Loads `extent × depth` elements into shared memory, `depth` slices of `extent` neighbours; zero beyond the matrix.
///
/// The summed axis is the rows of the matrix if `k_down`, else its columns.
#[cube]
fn load<T: Float, A: Float, N: Size>(
    matrix: &Tensor<Vector<T, N>>,
    tile: &mut Shared<[A]>,
    strides: &Strides,
    fold: &FoldSizes,
    batch: usize,
    first: usize,
    first_k: usize,
    end: usize,
    k: usize,
    #[comptime] operand: Operand,
    #[comptime] k_down: bool,
    #[comptime] extent: usize,
    #[comptime] depth: usize,
    #[comptime] units: usize,
    #[comptime] loading: Loading,
) {
    let vector = comptime!(loading.vector);
    #[unroll]
    for turn in 0..comptime!((extent * depth / loading.vector).div_ceil(units)) {
        let index = UNIT_POS as usize + turn * units;
        if index < comptime!(extent * depth / loading.vector) {
            let (along, kk) = if comptime!(loading.along_depth) {
                let vectors = comptime!(depth / loading.vector);
                (index / vectors, index % vectors * vector)
            } else {
                let vectors = comptime!(extent / loading.vector);
                (index % vectors * vector, index / vectors)
            };
            let (position, position_k) = (first + along, first_k + kk);
            let inside = position < end && position_k < k;
            let (row, col) = if comptime!(k_down) { (position_k, position) } else { (position, position_k) };
            if comptime!(loading.vector == 1) {
                let mut value = A::new(0.0);
                if inside {
                    value = element::<T, A, N>(matrix, strides, fold, batch, row, col, operand);
                }
                tile[kk * extent + along] = value;
            } else {
                // Inside or outside as a whole, since the vector divides the matrix.
                let mut values = Vector::<A, N>::new(A::new(0.0));
                if inside {
                    let start = batch * strides.batch + row * strides.row + col * strides.col;
                    values = Vector::cast_from(matrix[start / vector]);
                }
                #[unroll]
                for i in 0..vector {
                    let position = if comptime!(loading.along_depth) {
                        (kk + i) * extent + along
                    } else {
                        kk * extent + along + i
                    };
                    tile[position] = values.extract(i);
                }
            }
        }
    }
}

/// Element `(row, col)` of an operand that is read in vectors of one.
#[cube]
fn element<T: Float, A: Float, N: Size>(
    matrix: &Tensor<Vector<T, N>>,
    strides: &Strides,
    fold: &FoldSizes,
    batch: usize,
    row: usize,
    col: usize,
    #[comptime] operand: Operand,
) -> A {
    match operand {
        Operand::Strided => {
            A::cast_from(matrix[batch * strides.batch + row * strides.row + col * strides.col].extract(0usize))
        }
        Operand::Folded(kind) => folded::<T, A, N>(matrix, row * strides.row, strides.col, col, batch, fold, kind),
        Operand::FoldedTransposed(kind) => {
            folded::<T, A, N>(matrix, col * strides.row, strides.col, row, batch, fold, kind)
        }
        Operand::Tied(kind) => {
            unfolded::<T, A, N>(matrix, row * strides.col, strides.row, col, row / fold.block_n, fold, kind)
        }
    }
}
