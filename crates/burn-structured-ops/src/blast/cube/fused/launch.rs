//! Host side: tiles, strides, launch sizes.

use super::super::strategy;
use super::kernel::project_couple_kernel;
use crate::blast::reference;
use crate::cube::gemm::{Loading, Tile, strides_of};
use crate::cube::{Limits, address_type, empty_like, grid_of_cubes, kernel_dtypes};
use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// `t [b1, tokens, r]` of `x [tokens, b2 q]`, and `z [b2, tokens, r]` if it is to be kept; no size is zero.
pub(in crate::blast::cube) fn project_couple(
    x: CubeTensor,
    factor: CubeTensor,
    s: CubeTensor,
    keep: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    let [out_blocks, in_blocks, rank] = s.shape().dims();
    let [tokens, _] = x.shape().dims();
    let features = factor.shape()[1];
    let x = reference::split::<CubeBackend>(x, in_blocks);
    let t = empty_like(&x, Shape::new([out_blocks, tokens, rank]), x.dtype);
    let z = keep.then(|| empty_like(&x, Shape::new([in_blocks, tokens, rank]), x.dtype));
    // A kernel's arguments are fixed, so what is not kept is one element that no unit writes.
    let z_or_nothing = z.clone().unwrap_or_else(|| empty_like(&x, Shape::new([1]), x.dtype));

    let (units_m, units_n) = strategy::fused_units(tokens, Limits::of(&x.client));
    let (rows, cols, group) = strategy::fused_registers(out_blocks);
    let tile = Tile {
        units_m,
        units_n,
        rows,
        cols,
        depth: strategy::FUSED_DEPTH,
        lhs: loading(&x, [1, 2]),
        rhs: loading(&factor, [2, 1]),
    };
    let cubes = out_blocks.div_ceil(group) * tokens.div_ceil(tile.height()) * rank.div_ceil(tile.width());
    let client = x.client.clone();
    let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, tile.units());
    let address = address_type([&x, &factor, &s, &t, &z_or_nothing]);
    let dtypes = kernel_dtypes(x.dtype);
    let [x_strides, factor_strides, s_strides] = [&x, &factor, &s].map(strides_of);
    // SAFETY: a unit reads `x`, `factor` and `s` at the strides of their own layouts, at tokens, features, ranks and blocks
    // below their numbers; it writes `t`, and `z` where that is kept, both contiguous, within the same bounds. Vectors divide the extent they lie along and every
    // other stride.
    unsafe {
        project_couple_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            tile.lhs.vector,
            tile.rhs.vector,
            x.into_tensor_arg(),
            factor.into_tensor_arg(),
            s.into_tensor_arg(),
            t.clone().into_tensor_arg(),
            z_or_nothing.into_tensor_arg(),
            x_strides,
            factor_strides,
            s_strides,
            tokens,
            features,
            rank,
            in_blocks,
            out_blocks,
            cubes,
            tile,
            group,
            keep,
            dtypes,
        );
    }
    (t, z)
}

/// How an operand is loaded, given its axes along the tile and along the sum.
fn loading(tensor: &CubeTensor, [along, depth]: [usize; 2]) -> Loading {
    let (shape, strides) = (tensor.shape(), tensor.meta.strides());
    Loading::of(tensor, strides[0], (&[shape[along]], strides[along]), (shape[depth], strides[depth]))
}
