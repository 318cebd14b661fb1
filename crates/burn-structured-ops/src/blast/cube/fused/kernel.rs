//! Projection and coupling as one kernel.
//!
//! A cube computes a tile of `z_j` as the tiled GEMM does, in registers, and adds it to the tiles of the `t_i` that it holds
//! beside it; then comes the next `j`. `z` reaches memory only if the backward pass needs it.

use crate::cube::gemm::{Strides, Tile, add_product, load_strided};
use cubecl::prelude::*;

/// `t_i = Σ_j s_ij ∘ (x_j F_j)` for `group` neighbouring `i`, and `z_j = x_j F_j` itself if it is to be kept.
///
/// `x_strides` and `factor_strides` are of `[b2, tokens, q]` and `[b2, q, r]`, `s_strides` of `[b1, b2, r]`; `t` and `z`
/// are contiguous.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn project_couple_kernel<T: Float, A: Float, L: Size, R: Size>(
    x: &Tensor<Vector<T, L>>,
    factor: &Tensor<Vector<T, R>>,
    s: &Tensor<T>,
    t: &mut Tensor<T>,
    z: &mut Tensor<T>,
    x_strides: &Strides,
    factor_strides: &Strides,
    s_strides: &Strides,
    tokens: usize,
    features: usize,
    rank: usize,
    in_blocks: usize,
    out_blocks: usize,
    cubes: usize,
    #[comptime] tile: Tile,
    #[comptime] group: usize,
    #[comptime] keep: bool,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let (height, width, depth) = comptime!((tile.height(), tile.width(), tile.depth));
    let (rows, cols) = comptime!((tile.rows, tile.cols));
    let across = rank.div_ceil(width);
    let down = tokens.div_ceil(height);
    let first_k = (CUBE_POS % across) * width;
    let first_token = (CUBE_POS / across % down) * height;
    let first_block = CUBE_POS / (across * down) * group;

    let unit = UNIT_POS as usize;
    let unit_col = unit % comptime!(tile.units_n);
    let unit_row = unit / comptime!(tile.units_n);

    let mut x_tile = Shared::<[A]>::new_slice(comptime!(height * depth));
    let mut factor_tile = Shared::<[A]>::new_slice(comptime!(width * depth));
    let mut t_sums = Array::<A>::new(comptime!(group * rows * cols));
    #[unroll]
    for i in 0..comptime!(group * rows * cols) {
        t_sums[i] = A::new(0.0);
    }

    let steps = features.div_ceil(depth);
    for j in 0..in_blocks {
        let mut z_sums = Array::<A>::new(comptime!(rows * cols));
        #[unroll]
        for i in 0..comptime!(rows * cols) {
            z_sums[i] = A::new(0.0);
        }
        for step in 0..steps {
            load_strided::<T, A, L>(
                x,
                &mut x_tile,
                x_strides,
                j,
                first_token,
                step * depth,
                tokens,
                features,
                false,
                height,
                depth,
                comptime!(tile.units()),
                comptime!(tile.lhs),
            );
            load_strided::<T, A, R>(
                factor,
                &mut factor_tile,
                factor_strides,
                j,
                first_k,
                step * depth,
                rank,
                features,
                true,
                width,
                depth,
                comptime!(tile.units()),
                comptime!(tile.rhs),
            );
            sync_cube();
            add_product::<A>(&x_tile, &factor_tile, &mut z_sums, unit_row, unit_col, tile);
            sync_cube();
        }
        #[unroll]
        for c in 0..cols {
            let k = first_k + unit_col + c * comptime!(tile.units_n);
            #[unroll]
            for g in 0..group {
                // Beyond the last block or rank, a value that is in bounds and whose product is not stored.
                let block = min(first_block + g, out_blocks - 1);
                let scale =
                    A::cast_from(s[block * s_strides.batch + j * s_strides.row + min(k, rank - 1) * s_strides.col]);
                #[unroll]
                for i in 0..rows {
                    t_sums[(g * rows + i) * cols + c] += scale * z_sums[i * cols + c];
                }
            }
            if comptime!(keep) {
                #[unroll]
                for i in 0..rows {
                    let token = first_token + unit_row + i * comptime!(tile.units_m);
                    if first_block == 0 && token < tokens && k < rank {
                        z[(j * tokens + token) * rank + k] = T::cast_from(z_sums[i * cols + c]);
                    }
                }
            }
        }
    }

    #[unroll]
    for g in 0..group {
        let block = first_block + g;
        #[unroll]
        for i in 0..rows {
            let token = first_token + unit_row + i * comptime!(tile.units_m);
            #[unroll]
            for c in 0..cols {
                let k = first_k + unit_col + c * comptime!(tile.units_n);
                if block < out_blocks && token < tokens && k < rank {
                    t[(block * tokens + token) * rank + k] = T::cast_from(t_sums[(g * rows + i) * cols + c]);
                }
            }
        }
    }
}
