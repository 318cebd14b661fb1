//! Host side: strides, tiles, launch sizes.

use super::fold::FoldSizesLaunch;
use super::kernel::{Loading, Operand, StridesLaunch, Tile, direct_gemm_kernel, tiled_gemm_kernel};
use crate::cube::{Limits, PROCESSOR_UNITS, address_type, empty_like, grid_of_cubes, grid_of_units, kernel_dtypes};
use crate::operands::axes;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

/// The tile of a unit in the direct kernel.
const DIRECT_ROWS: usize = 4;
const DIRECT_COLS: usize = 8;

/// Burn's matmul of `lhs [b, m, k]` and `rhs [b, k, n]`, into `out [b, m, n]` if given; [`tiled_gemm`] where it cannot be
/// launched.
pub(crate) fn burn_gemm(lhs: CubeTensor, rhs: CubeTensor, out: Option<CubeTensor>) -> CubeTensor {
    let dtype = lhs.dtype;
    let out = out.unwrap_or_else(|| output(&lhs, &rhs));
    check(&lhs, &rhs, &out);
    let out = Some(out);
    let (whole_lhs, whole_rhs) = (batch_by_batch(lhs.clone()), batch_by_batch(rhs.clone()));
    matmul(whole_lhs, whole_rhs, out.clone(), MatmulStrategy::default(), dtype)
        .unwrap_or_else(|_unavailable| tiled_gemm(lhs, rhs, out))
}

/// Checks the operands of `lhs [b, m, k] × rhs [b, k, n]`, into `out [b, m, n]`.
///
/// # Panics
///
/// If a shape or dtype does not fit the others.
pub(super) fn check(lhs: &CubeTensor, rhs: &CubeTensor, out: &CubeTensor) {
    let [batch, m, k] = axes("gemm", "lhs", &lhs.shape());
    let [rhs_batch, rhs_k, n] = axes("gemm", "rhs", &rhs.shape());
    let fits = rhs_batch == batch && rhs_k == k && out.shape()[..] == [batch, m, n];
    assert!(fits, "gemm: {:?} × {:?} does not fit {:?}", lhs.shape(), rhs.shape(), out.shape());
    assert!(rhs.dtype == lhs.dtype && out.dtype == lhs.dtype, "gemm: operands must have the same dtype");
}

/// An uninitialised tensor for the product. Its rows are not padded, as Burn's matmul would pad them on some devices.
pub(super) fn output(lhs: &CubeTensor, rhs: &CubeTensor) -> CubeTensor {
    let ([batch, m, _], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    empty_like(lhs, Shape::new([batch, m, n]), lhs.dtype)
}

/// `operand [b, rows, cols]` with one matrix after the other in memory, copied if they are interleaved.
///
/// All but the simplest kernel of Burn's matmul would copy it as well, but the kernel is chosen before, by the strides
/// given: for interleaved matrices, one without a GPU's copy engine. A transposed operand stays one.
fn batch_by_batch(operand: CubeTensor) -> CubeTensor {
    let [batch, row, col] = operand.meta.strides()[..] else { return operand };
    let one = operand.meta.shape()[0] <= 1;
    if one || batch >= row.max(col) || batch == 0 {
        return operand;
    }
    if row >= col {
        return into_contiguous(operand);
    }
    let transposed = into_contiguous(CubeBackend::float_swap_dims(operand, 1, 2));
    CubeBackend::float_swap_dims(transposed, 1, 2)
}

/// This crate's product of `lhs [b, m, k]` and `rhs [b, k, n]`, at any strides, into `out [b, m, n]` if given.
pub(crate) fn tiled_gemm(lhs: CubeTensor, rhs: CubeTensor, out: Option<CubeTensor>) -> CubeTensor {
    let out = out.unwrap_or_else(|| output(&lhs, &rhs));
    check(&lhs, &rhs, &out);
    plain(&lhs, &rhs, &out).run(lhs, rhs, &out);
    out
}

/// The product of the tensors' own elements.
fn plain(lhs: &CubeTensor, rhs: &CubeTensor, out: &CubeTensor) -> Gemm {
    let strides = |tensor: &CubeTensor| {
        let strides = tensor.meta.strides();
        [strides[0], strides[1], strides[2]]
    };
    let ([batch, m, k], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    Gemm {
        lhs_strides: strides(lhs),
        rhs_strides: strides(rhs),
        out_strides: strides(out),
        operands: [Operand::Strided; 2],
        fold: FoldSizesLaunch::new(0, 1, 1, 1, 0),
        batch,
        sizes: [m, n, k],
        all_cols: batch * n,
    }
}

/// One product, fully described: see the kernel.
pub(crate) struct Gemm {
    pub(crate) lhs_strides: [usize; 3],
    pub(crate) rhs_strides: [usize; 3],
    pub(crate) out_strides: [usize; 3],
    pub(crate) operands: [Operand; 2],
    pub(crate) fold: FoldSizesLaunch,
    pub(crate) batch: usize,
    /// Rows, columns and depth of one batch.
    pub(crate) sizes: [usize; 3],
    /// Columns of all batches together, of which the last may have fewer.
    pub(crate) all_cols: usize,
}

impl Gemm {
    /// Writes the product to `out`, none of whose sizes is zero.
    pub(crate) fn run(self, lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
        if Limits::of(&out.client).gpu {
            self.run_tiled(lhs, rhs, out);
        } else {
            self.run_direct(lhs, rhs, out);
        }
    }

    fn run_direct(self, lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
        let [m, n, k] = self.sizes;
        let client = out.client.clone();
        let units = self.batch * m.div_ceil(DIRECT_ROWS) * n.div_ceil(DIRECT_COLS);
        let (cube_count, cube_dim) = grid_of_units(&client, units);
        let address = address_type([&lhs, &rhs, out]);
        let dtypes = kernel_dtypes(lhs.dtype);
        // SAFETY: a unit reads `lhs` and `rhs` at the strides of their own layouts, at rows below `m`, columns below `n` and
        // `all_cols`, depths below `k` and batches below `batch` (units beyond the last tile end at once), or through a
        // fold at features below its `d_input` and stored weights below its width; it writes `out` within the same bounds.
        unsafe {
            direct_gemm_kernel::launch_unchecked(
                &client,
                cube_count,
                cube_dim,
                address,
                1,
                lhs.into_tensor_arg(),
                rhs.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                strides(self.lhs_strides),
                strides(self.rhs_strides),
                strides(self.out_strides),
                m,
                n,
                k,
                self.all_cols,
                units,
                self.fold,
                DIRECT_ROWS,
                DIRECT_COLS,
                self.operands,
                dtypes,
            );
        }
    }

    fn run_tiled(self, lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
        let [m, n, k] = self.sizes;
        let client = out.client.clone();
        let loading = |tensor, operand, [batch, along, depth]: [usize; 3], extents: &[usize]| match operand {
            Operand::Strided => Loading::of(tensor, batch, (extents, along), (k, depth)),
            // Reads through a fold are scattered.
            _ => Loading { along_depth: depth == 1, vector: 1 },
        };
        let ([lhs_batch, lhs_row, lhs_col], [rhs_batch, rhs_row, rhs_col]) = (self.lhs_strides, self.rhs_strides);
        let lhs_loading = loading(&lhs, self.operands[0], [lhs_batch, lhs_row, lhs_col], &[m]);
        let rhs_loading = loading(&rhs, self.operands[1], [rhs_batch, rhs_col, rhs_row], &[n, self.all_cols]);
        let tile = tile([m, n], lhs_loading, rhs_loading, Limits::of(&client));
        let cubes = self.batch * m.div_ceil(tile.height()) * n.div_ceil(tile.width());
        let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, tile.units());
        let address = address_type([&lhs, &rhs, out]);
        let dtypes = kernel_dtypes(lhs.dtype);
        // SAFETY: as `run_direct`, cubes instead of units; vectors divide the extent of their axis and every stride.
        unsafe {
            tiled_gemm_kernel::launch_unchecked(
                &client,
                cube_count,
                cube_dim,
                address,
                tile.lhs.vector,
                tile.rhs.vector,
                lhs.into_tensor_arg(),
                rhs.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                strides(self.lhs_strides),
                strides(self.rhs_strides),
                strides(self.out_strides),
                m,
                n,
                k,
                self.all_cols,
                cubes,
                self.fold,
                tile,
                self.operands,
                dtypes,
            );
        }
    }
}

/// The strides of `tensor [batch, rows, cols]`, as kernels see them.
pub(crate) fn strides_of(tensor: &CubeTensor) -> StridesLaunch {
    let strides = tensor.meta.strides();
    StridesLaunch::new(strides[0], strides[1], strides[2])
}

fn strides([batch, row, col]: [usize; 3]) -> StridesLaunch {
    StridesLaunch::new(batch, row, col)
}

/// Elements loaded at a time at most, which divide every extent of every tile.
const MAX_VECTOR: usize = 8;

impl Loading {
    /// For an operand with these extents and strides along its rows or columns, and along the depth.
    ///
    /// Vectors are along the contiguous axis, if they divide its extents and the strides of every other axis; tensors themselves
    /// start aligned.
    pub(crate) fn of(
        tensor: &CubeTensor,
        batch_stride: usize,
        along: (&[usize], usize),
        depth: (usize, usize),
    ) -> Self {
        let along_depth = depth.1 == 1;
        let (extents, stride, other) =
            if along_depth { (&[depth.0][..], depth.1, along.1) } else { (along.0, along.1, depth.1) };
        let divides = |size: &usize| {
            *size <= MAX_VECTOR && [batch_stride, other].iter().chain(extents).all(|value| value.is_multiple_of(*size))
        };
        let sizes = tensor.client.io_optimized_vector_sizes(tensor.dtype.size());
        let vector = if stride == 1 { sizes.filter(divides).max().unwrap_or(1) } else { 1 };
        Self { along_depth, vector }
    }
}

/// Square tiles in general, flat or narrow ones for few rows or columns.
fn tile([m, n]: [usize; 2], lhs: Loading, rhs: Loading, limits: Limits) -> Tile {
    let (units_m, units_n, rows, cols) = match (m, n) {
        _ if limits.processor => (1, PROCESSOR_UNITS, 8, 4),
        (..=16, _) => (4, 32, 4, 2),
        (_, ..=16) => (32, 4, 2, 4),
        _ => (16, 16, 4, 4),
    };
    Tile { units_m, units_n, rows, cols, depth: 16, lhs, rhs }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cpu")))]
mod tests {
    use super::*;
    use crate::cube::testing::{device, read, whole_numbers};

    /// Runs the tiled kernel where `run` would choose the direct one.
    fn compare(name: &str) {
        let device = device(name);
        // Square, flat and narrow tiles; only the last loads vectors on both sides.
        for [m, n, k] in [[17, 65, 33], [3, 40, 16], [70, 9, 48], [68, 36, 20]] {
            let lhs = CubeBackend::float_swap_dims(whole_numbers([2, k, m], 5, &device), 1, 2);
            let rhs = whole_numbers([2, k, n], 3, &device);
            let out = || whole_numbers([2, m, n], 0, &device);
            let (tiled, direct) = (out(), out());
            plain(&lhs, &rhs, &tiled).run_tiled(lhs.clone(), rhs.clone(), &tiled);
            plain(&lhs, &rhs, &direct).run_direct(lhs.clone(), rhs.clone(), &direct);
            assert_eq!(read(tiled), read(direct), "{m} × {n} × {k}");
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn tiled_kernel_matches_direct_on_wgpu() {
        compare("wgpu");
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn tiled_kernel_matches_direct_on_cpu() {
        compare("cpu");
    }
}
