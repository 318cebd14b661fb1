//! Host side of the kernels: strides, launch sizes, and the three products as GEMMs with an operand that is read through
//! the fold.

use super::kernel::{fold_kernel, input_gradient_kernel};
use super::strategy::{self, GradientTile};
use crate::cube::gemm::fold::{FoldSizesLaunch, RotationKind};
use crate::cube::gemm::{Gemm, Loading, Operand, StridesLaunch, Tile};
use crate::cube::{Limits, accumulator, address_type, empty_like, grid_of_cubes, grid_of_units, kernel_dtypes};
use crate::ss1::{Fold, Rotations};
use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::tensor::CubeTensor;

/// `[rows, w]` for `x [rows, n]`, or with `inverse` `[rows, n]` for `x [rows, w]`.
pub(super) fn fold_rows(x: CubeTensor, fold: Fold, output_block: usize, inverse: bool) -> CubeTensor {
    let [rows, _] = x.shape().dims();
    let width = if inverse { fold.d_input } else { fold.width() };
    let out = empty_like(&x, Shape::new([rows, width]), x.dtype);
    let units = rows * width;
    let (cube_count, cube_dim) = grid_of_units(&out.client, units);
    let address = address_type([&x, &out]);
    let dtypes = kernel_dtypes(x.dtype);
    let (row_stride, col_stride) = (x.meta.strides()[0], x.meta.strides()[1]);
    // SAFETY: every unit below `units` writes its own element of `out`, which is contiguous, and reads `x` at the strides
    // of its own layout, at a row below `rows` and a column that the fold keeps below its `d_input` or width.
    unsafe {
        fold_kernel::launch_unchecked(
            &out.client,
            cube_count,
            cube_dim,
            address,
            1,
            x.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            row_stride,
            col_stride,
            width,
            units,
            output_block,
            sizes(fold),
            kind(fold),
            inverse,
            dtypes,
        );
    }
    out
}

/// `y_b = fold_b(x) Z_b`, a batch for every block of output rows.
pub(super) fn product(x: CubeTensor, z: CubeTensor, fold: Fold) -> CubeTensor {
    let [tokens, _] = x.shape().dims();
    let [width, m] = z.shape().dims();
    let y = empty_like(&x, Shape::new([tokens, m]), x.dtype);
    let [z_row, z_col] = strides(&z);
    let block_rows = fold.output_rows(m, 0).len();
    Gemm {
        lhs_strides: with_batch(0, strides(&x)),
        rhs_strides: [block_rows * z_col, z_row, z_col],
        out_strides: [block_rows, m, 1],
        operands: [Operand::Folded(kind(fold)), Operand::Strided],
        fold: sizes(fold),
        batch: fold.output_blocks(m),
        sizes: [tokens, block_rows, width],
        all_cols: m,
    }
    .run(x, z, &y);
    y
}

/// `dx = dy W`, from the stored weights where they fit a cube, else with `W` read out of them.
pub(super) fn input_gradient(dy: CubeTensor, z: CubeTensor, fold: Fold) -> CubeTensor {
    match strategy::gradient_tile(fold, accumulator(dy.dtype), Limits::of(&dy.client)) {
        Some(tile) => stored_input_gradient(dy, z, fold, tile),
        None => tied_input_gradient(dy, z, fold),
    }
}

/// `dx = Σ_b unfold_b(dy_b Z_bᵀ)`.
fn stored_input_gradient(dy: CubeTensor, z: CubeTensor, fold: Fold, tile: GradientTile) -> CubeTensor {
    let [tokens, m] = dy.shape().dims();
    let dx = empty_like(&dy, Shape::new([tokens, fold.d_input]), dy.dtype);
    let ([dy_row, dy_col], [z_row, z_col]) = (strides(&dy), strides(&z));
    let block_rows = fold.output_rows(m, 0).len();
    // Of the last block, vectors have to fit as well.
    let rows_in_vectors = if m.is_multiple_of(block_rows) { block_rows } else { 1 };
    let tile = Tile {
        units_m: tile.units,
        units_n: tile.units,
        rows: tile.rows,
        cols: tile.cols,
        depth: strategy::GRADIENT_DEPTH,
        lhs: Loading::of(&dy, block_rows * dy_col, (&[tokens], dy_row), (rows_in_vectors, dy_col)),
        // The tile may end within the group's stored weights, so there are no vectors along them.
        rhs: Loading::of(&z, block_rows * z_col, (&[1], z_row), (rows_in_vectors, z_col)),
    };
    let cubes = fold.groups() * tokens.div_ceil(tile.height());
    let client = dx.client.clone();
    let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, tile.units());
    let address = address_type([&dy, &z, &dx]);
    let dtypes = kernel_dtypes(dy.dtype);
    // SAFETY: a unit reads `dy` and `z` at the strides of their own layouts, at tokens, stored weights and output rows below
    // their numbers, and writes `dx`, which is contiguous, at a token below `tokens` and a feature below `d_input`.
    unsafe {
        input_gradient_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            tile.lhs.vector,
            tile.rhs.vector,
            dy.into_tensor_arg(),
            z.into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            StridesLaunch::new(block_rows * dy_col, dy_row, dy_col),
            StridesLaunch::new(block_rows * z_col, z_row, z_col),
            tokens,
            m,
            block_rows,
            fold.output_blocks(m),
            cubes,
            sizes(fold),
            tile,
            fold.block_k,
            fold.reduction,
            kind(fold),
            dtypes,
        );
    }
    dx
}

/// The same as one product with the tied matrix, at the FLOPs of a dense one.
fn tied_input_gradient(dy: CubeTensor, z: CubeTensor, fold: Fold) -> CubeTensor {
    let [tokens, m] = dy.shape().dims();
    let n = fold.d_input;
    let dx = empty_like(&dy, Shape::new([tokens, n]), dy.dtype);
    Gemm {
        lhs_strides: with_batch(0, strides(&dy)),
        rhs_strides: with_batch(0, strides(&z)),
        out_strides: [0, n, 1],
        operands: [Operand::Strided, Operand::Tied(kind(fold))],
        fold: sizes(fold),
        batch: 1,
        sizes: [tokens, n, m],
        all_cols: n,
    }
    .run(dy, z, &dx);
    dx
}

/// `dZ_b = fold_b(x)ᵀ dy_b`.
pub(super) fn weight_gradient(x: CubeTensor, dy: CubeTensor, fold: Fold) -> CubeTensor {
    let [tokens, m] = dy.shape().dims();
    let width = fold.width();
    let gradient = empty_like(&x, Shape::new([width, m]), x.dtype);
    let [dy_row, dy_col] = strides(&dy);
    let block_rows = fold.output_rows(m, 0).len();
    Gemm {
        lhs_strides: with_batch(0, strides(&x)),
        rhs_strides: [block_rows * dy_col, dy_row, dy_col],
        out_strides: [block_rows, m, 1],
        operands: [Operand::FoldedTransposed(kind(fold)), Operand::Strided],
        fold: sizes(fold),
        batch: fold.output_blocks(m),
        sizes: [width, block_rows, tokens],
        all_cols: m,
    }
    .run(x, dy, &gradient);
    gradient
}

fn kind(fold: Fold) -> RotationKind {
    match fold.rotations {
        Rotations::Arithmetic { .. } => RotationKind::Arithmetic,
        Rotations::Drawn { signs, .. } => RotationKind::Drawn { signs },
    }
}

fn sizes(fold: Fold) -> FoldSizesLaunch {
    let key = match fold.rotations {
        // Reduced, so that no multiple of it overflows an index; see `Fold::rotation`.
        Rotations::Arithmetic { step } => (step as usize % fold.block_k) as u32,
        Rotations::Drawn { seed, .. } => seed,
    };
    FoldSizesLaunch::new(fold.d_input, fold.reduction, fold.block_k, fold.block_n, key)
}

fn strides(matrix: &CubeTensor) -> [usize; 2] {
    [matrix.meta.strides()[0], matrix.meta.strides()[1]]
}

fn with_batch(batch: usize, [row, col]: [usize; 2]) -> [usize; 3] {
    [batch, row, col]
}
