//! Host side of the kernels: strides, launch sizes, and the three products as GEMMs with an operand that is read through
//! the fold.

use super::kernel::fold_kernel;
use crate::cube::{accumulator, address_type, empty_like};
use crate::gemm::fold::{FoldSizesLaunch, RotationKind};
use crate::gemm::{Gemm, Operand};
use crate::ss1::{Fold, Rotations};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{CubeDim, calculate_cube_count_elemwise};

/// `[rows, w]` for `x [rows, n]`, or with `inverse` `[rows, n]` for `x [rows, w]`.
pub(super) fn fold_rows(x: CubeTensor, fold: Fold, output_block: usize, inverse: bool) -> CubeTensor {
    let [rows, _] = x.shape().dims();
    let width = if inverse { fold.d_input } else { fold.width() };
    let out = empty_like(&x, Shape::new([rows, width]), x.dtype);
    let units = rows * width;
    let cube_dim = CubeDim::new(&out.client, units);
    let cube_count = calculate_cube_count_elemwise(&out.client, units, cube_dim);
    let address = address_type([&x, &out]);
    let dtypes = [x.dtype, accumulator(x.dtype)].map(dtype_to_storage_type);
    let (row_stride, col_stride) = (x.meta.strides()[0], x.meta.strides()[1]);
    // SAFETY: every unit below `units` writes its own element of `out`, which is contiguous, and reads `x` at the strides
    // of its own layout, at a row below `rows` and a column that the fold keeps below its `d_input` or width.
    unsafe {
        fold_kernel::launch_unchecked(
            &out.client,
            cube_count,
            cube_dim,
            address,
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

/// `dx = dy W`, with `W` read out of the stored weights.
pub(super) fn input_gradient(dy: CubeTensor, z: CubeTensor, fold: Fold) -> CubeTensor {
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
        Rotations::Arithmetic { step } => step,
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
