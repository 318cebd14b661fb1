//! Host side: which products the kernel can compute, alignment, launch sizes.

use super::kernel::{ProductSizesLaunch, tensor_core_gemm_kernel};
use super::mma_backend::MmaBackend;
use super::tiling::{Contiguous, TILE_COLS, TILE_K, TILE_ROWS, Tiling, VECTOR, choose_tiling};
use crate::OptionalTensor;
use crate::cube::gemm::launch::{check, output, strides_of};
use crate::cube::{Limits, address_type, grid_of_cubes, multiprocessors};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// Whether the device multiplies tiles of `dtype`, sums in f32, by instructions whose registers a kernel can fill itself.
pub(crate) fn has_tensor_cores(client: &Client, dtype: DType) -> bool {
    if !matches!(dtype, DType::F16 | DType::BF16) {
        return false;
    }
    let kind = dtype_to_storage_type(dtype);
    let tile = MmaConfig {
        a_type: kind,
        b_type: kind,
        cd_type: ElemType::Float(FloatKind::F32),
        m: TILE_ROWS as u32,
        n: TILE_COLS as u32,
        k: TILE_K as u32,
    };
    let matmul = &client.features().matmul;
    matmul.mma.contains(&tile) && matmul.ldmatrix.contains(&kind)
}

/// Whether [`tensor_core_gemm`] can multiply these operands `[b, m, k]` and `[b, k, n]`.
///
/// The device must have tensor cores for their dtype, and the rows of the product and one axis of each operand must consist of
/// whole vectors.
pub(crate) fn on_tensor_cores(lhs: &CubeTensor, rhs: &CubeTensor) -> bool {
    let whole = |operand: &CubeTensor| operand.shape()[1..].iter().any(|extent| extent.is_multiple_of(VECTOR));
    let n = rhs.shape()[2];
    has_tensor_cores(&lhs.client, lhs.dtype) && n.is_multiple_of(VECTOR) && whole(lhs) && whole(rhs)
}

/// `lhs [b, m, k] × rhs [b, k, n] + bias` on tensor cores, into `out [b, m, n]` if given; `bias` is `[b n]`.
///
/// The operands must be [`on_tensor_cores`]. An operand whose rows are not aligned to vectors is copied.
pub(crate) fn tensor_core_gemm(
    lhs: CubeTensor,
    rhs: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    out: Option<CubeTensor>,
) -> CubeTensor {
    let out = out.unwrap_or_else(|| output(&lhs, &rhs));
    assert!(on_tensor_cores(&lhs, &rhs), "tensor-core gemm: {:?} × {:?} is unsupported", lhs.shape(), rhs.shape());
    let ([batch, m, _], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    let shared_memory = Limits::of(&out.client).shared_memory;
    let tiling = choose_tiling(batch, m, n, multiprocessors(&out.client), shared_memory);
    launch(lhs, rhs, bias, &out, tiling, MmaBackend::Instruction);
    out
}

/// [`tensor_core_gemm`] by a given tiling.
fn launch(
    lhs: CubeTensor,
    rhs: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    out: &CubeTensor,
    tiling: Tiling,
    mma: MmaBackend,
) {
    check(&lhs, &rhs, out);
    assert!(
        vector_axis(out) == Some(Axis::Cols),
        "tensor-core gemm: the rows of the output must be aligned to vectors"
    );
    let ([batch, m, k], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    bias.check_bias(batch * n, lhs.dtype);
    let ((lhs, lhs_axis), (rhs, rhs_axis)) = (in_vectors(lhs), in_vectors(rhs));
    let along = |axis, depth_axis| if axis == depth_axis { Contiguous::Depth } else { Contiguous::Across };
    let contiguous = [along(lhs_axis, Axis::Cols), along(rhs_axis, Axis::Rows)];
    let client = out.client.clone();
    let cubes = batch * m.div_ceil(tiling.height()) * n.div_ceil(tiling.width());
    let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, tiling.units());
    // A kernel's arguments are fixed, so an absent bias is a tensor that no unit reads.
    let (bias, has_bias) = match bias {
        OptionalTensor::None => (rhs.clone(), false),
        OptionalTensor::Some(bias) => (bias, true),
    };
    let address = address_type([&lhs, &rhs, &bias, out]);
    let bias_stride = bias.meta.strides().last().copied().unwrap_or(1);
    let (lhs_strides, rhs_strides, out_strides) = (strides_of(&lhs), strides_of(&rhs), strides_of(out));
    let dtype = dtype_to_storage_type(lhs.dtype);
    // SAFETY: a cube below `cubes` reads vectors of `lhs` and `rhs` that begin at rows below `m`, columns below `n`, depths
    // below `k` and batches below `batch`, at the strides of their own layouts; a vector divides the extent of the axis it lies
    // along and the strides of the others (but of axes of one element, whose index is 0), so it is within the tensor. It reads `bias` at a batch's columns, and writes
    // vectors of `out` within the same bounds, which divide `n` and the strides of
    // `out`, whose columns are neighbours.
    unsafe {
        tensor_core_gemm_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            VECTOR,
            lhs.into_tensor_arg(),
            rhs.into_tensor_arg(),
            bias.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            lhs_strides,
            rhs_strides,
            out_strides,
            bias_stride,
            ProductSizesLaunch::new(m, n, k, cubes),
            tiling,
            contiguous,
            has_bias,
            mma,
            dtype,
        );
    }
}

/// The axis of a matrix along which its vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// Neighbours in memory are rows of the same column.
    Rows,
    /// Neighbours in memory are columns of the same row.
    Cols,
}

/// The axis along which `operand [b, rows, cols]` consists of whole vectors in place, if there is one.
fn vector_axis(operand: &CubeTensor) -> Option<Axis> {
    let [batch, row, col] = operand.meta.strides()[..] else { return None };
    let [batches, rows, cols] = operand.shape().dims();
    // Where an axis has one element, its stride is never taken.
    let aligned = |extent: usize, stride: usize| extent <= 1 || stride.is_multiple_of(VECTOR);
    let along = |(extent, stride): (usize, usize), (others, other): (usize, usize)| {
        let whole = stride == 1 && extent.is_multiple_of(VECTOR);
        whole && aligned(others, other) && aligned(batches, batch)
    };
    if along((cols, col), (rows, row)) {
        return Some(Axis::Cols);
    }
    along((rows, row), (cols, col)).then_some(Axis::Rows)
}

/// `operand [b, rows, cols]` and the axis of its vectors; copied unless it consists of whole ones.
fn in_vectors(operand: CubeTensor) -> (CubeTensor, Axis) {
    if let Some(axis) = vector_axis(&operand) {
        return (operand, axis);
    }
    let [_, rows, cols] = operand.shape().dims();
    let transposed = matches!(operand.meta.strides()[..], [_, 1, col] if col != 1);
    // A transposed operand stays transposed, if it can.
    if cols.is_multiple_of(VECTOR) && !(transposed && rows.is_multiple_of(VECTOR)) {
        return (into_contiguous(operand), Axis::Cols);
    }
    let by_column = into_contiguous(CubeBackend::float_swap_dims(operand, 1, 2));
    (CubeBackend::float_swap_dims(by_column, 1, 2), Axis::Rows)
}

#[cfg(all(test, any(feature = "cuda", feature = "cpu")))]
mod tests {
    use super::*;
    use crate::cube::empty_like;
    use crate::cube::gemm::tiled_gemm;
    use crate::cube::testing::{device, read, whole_numbers};
    use burn::tensor::{FloatDType, Shape};
    use burn_cubecl::CubeDevice;

    /// The products of two matrices, transposed in memory or not, by every tiling, with a bias of ones; the expected ones are
    /// computed in f32, where they are exact.
    fn compare(
        device: &CubeDevice,
        dtype: FloatDType,
        [m, n, k]: [usize; 3],
        [lhs_transposed, rhs_transposed]: [bool; 2],
        tilings: &[Tiling],
        mma: MmaBackend,
    ) {
        let place = |[rows, cols]: [usize; 2], transposed: bool, dtype: FloatDType| {
            let dims = if transposed { [2, cols, rows] } else { [2, rows, cols] };
            let values = CubeBackend::float_cast(whole_numbers(dims, 5, device), dtype);
            if transposed { CubeBackend::float_swap_dims(values, 1, 2) } else { values }
        };
        let operands = |dtype| (place([m, k], lhs_transposed, dtype), place([k, n], rhs_transposed, dtype));
        let (lhs, rhs) = operands(FloatDType::F32);
        let expected = CubeBackend::float_add_scalar(tiled_gemm(lhs, rhs, None), 1.into());
        let expected = read(CubeBackend::float_cast(expected, dtype));
        let (lhs, rhs) = operands(dtype);
        let bias = CubeBackend::float_ones(Shape::new([2 * n]), device, dtype);
        for tiling in tilings {
            let out = empty_like(&lhs, Shape::new([2, m, n]), lhs.dtype);
            launch(lhs.clone(), rhs.clone(), OptionalTensor::Some(bias.clone()), &out, *tiling, mma);
            let what = format!("{dtype:?}, {m} × {n} × {k}, {lhs_transposed}, {rhs_transposed}, {tiling:?}");
            assert_eq!(read(out), expected, "{what}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    #[allow(clippy::print_stderr, reason = "a test that skips says so")]
    fn every_tiling_matches_tiled_gemm() {
        let opened = std::panic::catch_unwind(|| {
            let device = device("cuda");
            device.client();
            device
        });
        let Ok(device) = opened else { return eprintln!("skipped: no CUDA device on this machine") };
        for dtype in [FloatDType::BF16, FloatDType::F16] {
            if !has_tensor_cores(&device.client(), dtype.into()) {
                eprintln!("skipped: {device:?} has no tensor cores for {dtype:?}");
                continue;
            }
            for sizes in [[8, 8, 8], [16, 24, 40], [136, 264, 72], [256, 512, 96], [328, 40, 1000]] {
                for layout in [[false, false], [false, true], [true, false], [true, true]] {
                    compare(&device, dtype, sizes, layout, &super::super::tiling::TILINGS, MmaBackend::Instruction);
                }
            }
        }
    }

    /// Without tensor cores: all but the instructions themselves, by a single plane, since every unit is a thread.
    #[cfg(feature = "cpu")]
    #[test]
    fn emulated_plane_matches_tiled_gemm() {
        let device = device("cpu");
        let tiling = |depth| Tiling { planes_m: 1, planes_n: 1, rows: 4, cols: 8, depth };
        // Less depth than a step has, and more than the stages hold; rows and columns beyond the tile.
        for (depth, sizes, layout) in [
            (32, [8, 72, 136], [false, false]),
            (32, [8, 72, 136], [true, true]),
            (64, [72, 40, 72], [false, true]),
            (64, [72, 40, 72], [true, false]),
        ] {
            compare(&device, FloatDType::F32, sizes, layout, &[tiling(depth)], MmaBackend::Emulated);
        }
    }
}
