//! Folding and unfolding rows, and the gradient of the input, as kernels.

use crate::cube::gemm::fold::{FoldSizes, RotationKind, draw, folded, shift_of, sign_of, unfolded};
use crate::cube::gemm::{Strides, Tile, add_product, load_strided};
use cubecl::prelude::*;

/// `out [rows, width] = fold(x [rows, n])`, or with `inverse` `out [rows, n] = unfold(x [rows, w])`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn fold_kernel<T: Float, A: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    out: &mut Tensor<T>,
    row_stride: usize,
    col_stride: usize,
    out_width: usize,
    units: usize,
    output_block: usize,
    sizes: &FoldSizes,
    #[comptime] kind: RotationKind,
    #[comptime] inverse: bool,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let offset = ABSOLUTE_POS / out_width * row_stride;
    let col = ABSOLUTE_POS % out_width;
    let value = if comptime!(inverse) {
        unfolded::<T, A, N>(x, offset, col_stride, col, output_block, sizes, kind)
    } else {
        folded::<T, A, N>(x, offset, col_stride, col, output_block, sizes, kind)
    };
    out[ABSOLUTE_POS] = T::cast_from(value);
}

/// `dx = Σ_b unfold_b(dy_b Z_bᵀ)`: every product is with stored weights, and costs `1/c` of what it would with `W`.
///
/// A cube takes a tile of tokens and one group of `c` blocks, whose features all read the same `K` stored weights. For each
/// block of output rows it computes the gradient of the group's sketch as the tiled GEMM does, leaves it in shared memory,
/// and adds it to the features of every block of the group, rotated and signed, in registers.
///
/// The batches of `dy [tokens, m]` and `z [w, m]` are the `output_blocks` of `block_rows` columns each.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn input_gradient_kernel<T: Float, A: Float, L: Size, R: Size>(
    dy: &Tensor<Vector<T, L>>,
    z: &Tensor<Vector<T, R>>,
    dx: &mut Tensor<T>,
    dy_strides: &Strides,
    z_strides: &Strides,
    tokens: usize,
    d_output: usize,
    block_rows: usize,
    output_blocks: usize,
    cubes: usize,
    sizes: &FoldSizes,
    #[comptime] tile: Tile,
    #[comptime] block_k: usize,
    #[comptime] reduction: usize,
    #[comptime] kind: RotationKind,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let (height, width, depth) = comptime!((tile.height(), tile.width(), tile.depth));
    let (rows, cols) = comptime!((tile.rows, tile.cols));
    let down = tokens.div_ceil(height);
    let first_token = (CUBE_POS % down) * height;
    let group = CUBE_POS / down;
    let unit_col = UNIT_POS as usize % comptime!(tile.units_n);
    let unit_row = UNIT_POS as usize / comptime!(tile.units_n);

    let mut dy_tile = Shared::<[A]>::new_slice(comptime!(height * depth));
    let mut z_tile = Shared::<[A]>::new_slice(comptime!(width * depth));
    let mut sketch = Shared::<[A]>::new_slice(comptime!(height * width));
    let mut sums = Array::<A>::new(comptime!(reduction * rows * cols));
    #[unroll]
    for i in 0..comptime!(reduction * rows * cols) {
        sums[i] = A::new(0.0);
    }

    for block in 0..output_blocks {
        let block_depth = min(block_rows, d_output - block * block_rows);
        let mut products = Array::<A>::new(comptime!(rows * cols));
        #[unroll]
        for i in 0..comptime!(rows * cols) {
            products[i] = A::new(0.0);
        }
        let steps = block_depth.div_ceil(depth);
        for step in 0..steps {
            load_strided::<T, A, L>(
                dy,
                &mut dy_tile,
                dy_strides,
                block,
                first_token,
                step * depth,
                tokens,
                block_depth,
                false,
                height,
                depth,
                comptime!(tile.units()),
                comptime!(tile.lhs),
            );
            load_strided::<T, A, R>(
                z,
                &mut z_tile,
                z_strides,
                block,
                group * block_k,
                step * depth,
                group * block_k + block_k,
                block_depth,
                false,
                width,
                depth,
                comptime!(tile.units()),
                comptime!(tile.rhs),
            );
            sync_cube();
            add_product::<A>(&dy_tile, &z_tile, &mut products, unit_row, unit_col, tile);
            sync_cube();
        }
        #[unroll]
        for i in 0..rows {
            #[unroll]
            for c in 0..cols {
                let position =
                    (unit_row + i * comptime!(tile.units_m)) * width + unit_col + c * comptime!(tile.units_n);
                sketch[position] = products[i * cols + c];
            }
        }
        sync_cube();
        #[unroll]
        for j in 0..reduction {
            let drawn = draw(sizes.key, block, group * reduction + j);
            let shift = shift_of(drawn, sizes, j, kind);
            let sign = sign_of::<A>(drawn, kind);
            #[unroll]
            for c in 0..cols {
                // Beyond the block, a weight that is in bounds and whose gradient is not stored.
                let feature = min(unit_col + c * comptime!(tile.units_n), block_k - 1);
                let stored = (feature + block_k - shift) % block_k;
                #[unroll]
                for i in 0..rows {
                    let row = unit_row + i * comptime!(tile.units_m);
                    sums[(j * rows + i) * cols + c] += sign * sketch[row * width + stored];
                }
            }
        }
        // The next block's sketch is written after further barriers, once every unit has read this one.
    }

    #[unroll]
    for j in 0..reduction {
        #[unroll]
        for c in 0..cols {
            let within = unit_col + c * comptime!(tile.units_n);
            let feature = (group * reduction + j) * block_k + within;
            #[unroll]
            for i in 0..rows {
                let token = first_token + unit_row + i * comptime!(tile.units_m);
                if within < block_k && feature < sizes.d_input && token < tokens {
                    dx[token * sizes.d_input + feature] = T::cast_from(sums[(j * rows + i) * cols + c]);
                }
            }
        }
    }
}
