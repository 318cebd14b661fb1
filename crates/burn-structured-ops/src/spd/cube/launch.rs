//! Host side of the kernels: strides, units, launch sizes.

use super::kernel::{factor_kernel, substitute_kernel};
use crate::cube::gemm::strides_of;
use crate::cube::{Limits, address_type, empty_like, grid_of_cubes, grid_of_units};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// Units that share a matrix at most. More would wait at barriers longer than they work.
const MAX_UNITS: usize = 256;

/// The factors, stored by columns: a transposed view.
pub(super) fn factor(a: CubeTensor) -> CubeTensor {
    let [matrices, n, _] = a.shape().dims();
    let factor = empty_like(&a, a.shape(), a.dtype);
    let client = factor.client.clone();
    let units = units_per_matrix(&client, n);
    let (cube_count, cube_dim) = match units {
        1 => grid_of_units(&client, matrices),
        _ => grid_of_cubes(&client, matrices, units),
    };
    let address = address_type([&a, &factor]);
    let a_strides = strides_of(&a);
    let (panel, dtype) = (panel(a.dtype), dtype_to_storage_type(a.dtype));
    // SAFETY: a matrix is below `matrices` (units and cubes beyond the last end at once), a row and a column are below `n`;
    // `a` is read at the strides of its own layout, and `factor` is contiguous with `n²` elements a matrix. The units
    // of a cube read what others wrote only after a barrier.
    unsafe {
        factor_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            a.into_tensor_arg(),
            factor.clone().into_tensor_arg(),
            a_strides,
            n,
            matrices,
            InputScalar::new(f64::NAN, dtype),
            units,
            panel,
            dtype,
        );
    }
    CubeBackend::float_swap_dims(factor, 1, 2)
}

/// Columns (rows, in a substitution) taken at a time: 8 in f32, 4 in f64.
///
/// A unit keeps the block of this size on the diagonal to itself, a quarter of a kilobyte at most: more than 544 bytes
/// race under Vulkan with CubeCL 0.11 (cubecl #1336).
fn panel(dtype: DType) -> usize {
    32 / dtype.size()
}

/// One on processors, whose barriers cost more than the units save; the others have matrices of their own to work on.
fn units_per_matrix(client: &Client, n: usize) -> usize {
    if Limits::of(client).processor {
        return 1;
    }
    let hardware = &client.properties().hardware;
    let plane = hardware.plane_size_max as usize;
    let most = MAX_UNITS.min(hardware.max_units_per_cube as usize);
    n.next_multiple_of(plane).min(most / plane * plane).max(1)
}

/// The solutions, contiguous.
pub(super) fn substitute(factor: CubeTensor, b: CubeTensor) -> CubeTensor {
    let [matrices, n, k] = b.shape().dims();
    let x = empty_like(&b, b.shape(), b.dtype);
    let client = x.client.clone();
    let columns = matrices * k;
    let (cube_count, cube_dim) = grid_of_units(&client, columns);
    let address = address_type([&factor, &b, &x]);
    let (factor_strides, b_strides) = (strides_of(&factor), strides_of(&b));
    let (panel, dtype) = (panel(b.dtype), dtype_to_storage_type(b.dtype));
    // SAFETY: a unit below `columns` reads `factor` and `b` at the strides of their own layouts, at rows and columns below
    // their sizes, and is the only one that reads and writes its column of `x`, which is contiguous.
    unsafe {
        substitute_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            factor.into_tensor_arg(),
            b.into_tensor_arg(),
            x.clone().into_tensor_arg(),
            factor_strides,
            b_strides,
            n,
            k,
            columns,
            panel,
            dtype,
        );
    }
    x
}
