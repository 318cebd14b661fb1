//! Host side: one launch or two, strides, sizes.

use super::super::by_rank;
use super::super::strategy::{self, Problem};
use super::couple::decode_couple_kernel;
use super::expand::decode_expand_kernel;
use super::plan::{Plan, WIDEST_LOAD, couple_cube, expand_cube, plan};
use super::single::decode_kernel;
use super::sizes::DecodeSizesLaunch;
use crate::OptionalTensor;
use crate::blast::reference;
use crate::cube::gemm::{StridesLaunch, strides_of};
use crate::cube::{Limits, address_type, empty_like, grid_of_cubes, kernel_dtypes};
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// `y [tokens, m]` of `x [tokens, n]`; no size is zero, and the product is one that `strategy::unsupported` accepts.
pub(in crate::blast::cube) fn decode(
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    problem: Problem,
) -> CubeTensor {
    let client = x.client.clone();
    let limits = Limits::of(&client);
    let plan = plan(problem, limits);
    let sizes = problem.sizes;
    let launch_sizes = || DecodeSizesLaunch::new(sizes.tokens, sizes.b2, sizes.b1, sizes.q, sizes.p, sizes.r);
    let dtypes = kernel_dtypes(x.dtype);
    let y = empty_like(&x, Shape::new([sizes.tokens, sizes.b1 * sizes.p]), x.dtype);
    let x = reference::split::<CubeBackend>(x, sizes.b2);
    let [x_strides, u_strides, s_strides, v_strides] = [&x, &u, &s, &v].map(strides_of);
    // A kernel's arguments are fixed, so without a bias it gets a tensor that no unit reads.
    let (bias, has_bias) = match bias {
        OptionalTensor::None => (u.clone(), false),
        OptionalTensor::Some(bias) => (bias, true),
    };
    let bias_stride = bias.meta.strides().last().copied().unwrap_or(1);
    match plan {
        Plan::One { cube, passes } => {
            let cubes = sizes.b1 * sizes.p.div_ceil(passes * cube.splits);
            let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, cube.units());
            let address = address_type([&x, &v, &s, &u, &bias, &y]);
            // SAFETY: a unit reads the operands at the strides of their own layouts, at tokens, features, rows, ranks and
            // blocks below their numbers, and writes `y`, which is contiguous, at a token and row below theirs.
            unsafe {
                decode_kernel::launch_unchecked(
                    &client,
                    cube_count,
                    cube_dim,
                    address,
                    x.into_tensor_arg(),
                    v.into_tensor_arg(),
                    s.into_tensor_arg(),
                    u.into_tensor_arg(),
                    bias.into_tensor_arg(),
                    y.clone().into_tensor_arg(),
                    x_strides,
                    v_strides,
                    s_strides,
                    u_strides,
                    bias_stride,
                    launch_sizes(),
                    passes,
                    cubes,
                    cube,
                    sizes.r,
                    has_bias,
                    dtypes,
                );
            }
        }
        Plan::Two => {
            let (v, u) = (by_rank(v), by_rank(u));
            let (v_vector, u_vector) = (vector(&v, limits), vector(&u, limits));
            let couple = couple_cube(problem, v_vector, limits);
            let expand = expand_cube(problem, u_vector, limits);
            let t = empty_like(&x, Shape::new([sizes.b1, sizes.tokens, sizes.r]), x.dtype);
            let cubes = sizes.r.div_ceil(couple.cols());
            let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, couple.units());
            let address = address_type([&x, &v, &s, &t]);
            // SAFETY: as above, with `t` instead of `y`; vectors divide the rank and the strides of the blocks and rows of `v`,
            // along which ranks are neighbours.
            unsafe {
                decode_couple_kernel::launch_unchecked(
                    &client,
                    cube_count,
                    cube_dim,
                    address,
                    couple.vector,
                    x.into_tensor_arg(),
                    v.clone().into_tensor_arg(),
                    s.into_tensor_arg(),
                    t.clone().into_tensor_arg(),
                    x_strides,
                    vector_strides(&v, couple.vector),
                    s_strides,
                    launch_sizes(),
                    couple,
                    dtypes,
                );
            }
            let cubes = sizes.b1 * sizes.p.div_ceil(expand.height());
            let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, expand.units());
            let address = address_type([&t, &u, &bias, &y]);
            // SAFETY: as above, with `u` instead of `v`; `t` is contiguous, and vectors divide the rank, which is its rows.
            unsafe {
                decode_expand_kernel::launch_unchecked(
                    &client,
                    cube_count,
                    cube_dim,
                    address,
                    expand.vector,
                    t.into_tensor_arg(),
                    u.clone().into_tensor_arg(),
                    bias.into_tensor_arg(),
                    y.clone().into_tensor_arg(),
                    vector_strides(&u, expand.vector),
                    bias_stride,
                    launch_sizes(),
                    cubes,
                    expand,
                    has_bias,
                    dtypes,
                );
            }
        }
    }
    y
}

/// Elements that a unit loads at a time of a factor whose ranks are neighbours.
fn vector(factor: &CubeTensor, limits: Limits) -> usize {
    let strides = factor.meta.strides();
    match limits.processor {
        true => 1,
        false => {
            let bytes = factor.dtype.size();
            let sizes = factor.client.io_optimized_vector_sizes(bytes).filter(|size| size * bytes <= WIDEST_LOAD);
            strategy::vector_size(sizes, &[factor.meta.shape()[2], strides[0], strides[1]])
        }
    }
}

/// Strides in vectors of `size` elements.
fn vector_strides(factor: &CubeTensor, size: usize) -> StridesLaunch {
    let strides = factor.meta.strides();
    StridesLaunch::new(strides[0] / size, strides[1] / size, 1)
}
