//! Host side: which products the kernel can compute, alignment, launch sizes.

use super::cut::{Contiguous, Cut, TILE_COLS, TILE_ROWS, TILE_TERMS, VECTOR, cut};
use super::kernel::{ProductSizesLaunch, tensor_core_gemm_kernel};
use super::multiply::Multiply;
use crate::Bias;
use crate::cube::address_type;
use crate::gemm::launch::{output, strides_of};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::{CubeDim, calculate_cube_count_elemwise};

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
        k: TILE_TERMS as u32,
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
/// The operands must be [`on_tensor_cores`]. Those whose rows do not begin at whole vectors are copied.
pub(crate) fn tensor_core_gemm(
    lhs: CubeTensor,
    rhs: CubeTensor,
    bias: Bias<CubeBackend>,
    out: Option<CubeTensor>,
) -> CubeTensor {
    let out = out.unwrap_or_else(|| output(&lhs, &rhs));
    let ([batch, m, _], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    let hardware = &out.client.properties().hardware;
    let cut = cut(batch, m, n, hardware.num_streaming_multiprocessors, hardware.max_shared_memory_size);
    launch(lhs, rhs, bias, &out, cut, Multiply::Instruction);
    out
}

/// [`tensor_core_gemm`] by a given cut.
fn launch(lhs: CubeTensor, rhs: CubeTensor, bias: Bias<CubeBackend>, out: &CubeTensor, cut: Cut, multiply: Multiply) {
    let ([batch, m, k], [_, _, n]) = (lhs.shape().dims(), rhs.shape().dims());
    let ((lhs, lhs_axis), (rhs, rhs_axis)) = (in_vectors(lhs), in_vectors(rhs));
    let along = |axis, terms| if axis == terms { Contiguous::Terms } else { Contiguous::Across };
    let contiguous = [along(lhs_axis, Axis::Cols), along(rhs_axis, Axis::Rows)];
    let client = out.client.clone();
    let cubes = batch * m.div_ceil(cut.height()) * n.div_ceil(cut.width());
    let cube_dim = CubeDim::new_1d(cut.units() as u32);
    // A kernel's arguments are fixed, so an absent bias is a tensor that no unit reads.
    let (bias, has_bias) = match bias {
        Bias::Absent => (rhs.clone(), false),
        Bias::Added(bias) => (bias, true),
    };
    let address = address_type([&lhs, &rhs, &bias, out]);
    let bias_stride = bias.meta.strides().last().copied().unwrap_or(1);
    let (lhs_strides, rhs_strides, out_strides) = (strides_of(&lhs), strides_of(&rhs), strides_of(out));
    let dtype = dtype_to_storage_type(lhs.dtype);
    // SAFETY: a cube below `cubes` reads vectors of `lhs` and `rhs` that begin at rows below `m`, columns below `n`, terms
    // below `k` and batches below `batch`, at the strides of their own layouts; a vector divides the extent of the axis it lies
    // along and the strides of the others (but of axes of one element, whose index is 0), so it is within the tensor. It reads `bias` at a batch's columns, and writes
    // vectors of `out` within the same bounds, which divide `n` and, as the caller promises, the strides of
    // `out`, whose columns are neighbours.
    unsafe {
        tensor_core_gemm_kernel::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, cubes * cut.units(), cube_dim),
            cube_dim,
            address,
            VECTOR,
            2,
            lhs.into_tensor_arg(),
            rhs.into_tensor_arg(),
            bias.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            lhs_strides,
            rhs_strides,
            out_strides,
            bias_stride,
            ProductSizesLaunch::new(m, n, k, cubes),
            cut,
            contiguous,
            has_bias,
            multiply,
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

/// The axis along which `operand [b, rows, cols]` consists of whole vectors as it lies, if there is one.
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

/// `operand [b, rows, cols]` and the axis of its vectors; copied unless it lies in whole ones.
fn in_vectors(operand: CubeTensor) -> (CubeTensor, Axis) {
    if let Some(axis) = vector_axis(&operand) {
        return (operand, axis);
    }
    let [_, rows, cols] = operand.shape().dims();
    let transposed = matches!(operand.meta.strides()[..], [_, 1, col] if col != 1);
    // What is transposed stays so, if it can.
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
    use crate::gemm::tiled_gemm;
    use burn::backend::DispatchDevice;
    use burn::tensor::{Shape, TensorData};

    /// A batch of two matrices of small whole numbers, so that the order of the sums does not matter.
    fn upload(
        [rows, cols]: [usize; 2],
        transposed: bool,
        dtype: DType,
        device: &burn_cubecl::CubeDevice,
    ) -> CubeTensor {
        let values: Vec<f32> = (0..2 * rows * cols).map(|index| ((index * 5) % 7) as f32 - 3.0).collect();
        let dims = if transposed { [2, cols, rows] } else { [2, rows, cols] };
        let tensor = CubeBackend::float_from_data(TensorData::new(values, dims).convert_dtype(dtype), device);
        if transposed { CubeBackend::float_swap_dims(tensor, 1, 2) } else { tensor }
    }

    fn read(tensor: CubeTensor) -> Vec<f32> {
        let data = burn::tensor::read_sync(CubeBackend::float_into_data(tensor)).expect("readable");
        data.convert_dtype(DType::F32).try_into_vec::<f32>().expect("f32 values")
    }

    /// The products of operands that are transposed, either or not, by every cut.
    #[allow(clippy::print_stderr, reason = "a test that skips says so")]
    fn compare(
        device: &str,
        dtype: DType,
        sizes: &[[usize; 3]],
        layouts: &[[bool; 2]],
        cuts: &[Cut],
        multiply: Multiply,
    ) {
        let device = match crate::device::named(device) {
            Ok(device) => device,
            Err(error) => return eprintln!("{error}; skipped"),
        };
        let DispatchDevice::Cube(device) = device.as_dispatch() else { panic!("{device:?} is no CubeCL device") };
        if multiply == Multiply::Instruction && !has_tensor_cores(&device.client(), dtype) {
            return eprintln!("{device:?} has no tensor cores for {dtype:?}; skipped");
        }
        for [m, n, k] in sizes.iter().copied() {
            for [lhs_transposed, rhs_transposed] in layouts.iter().copied() {
                let lhs = upload([m, k], lhs_transposed, dtype, device);
                let rhs = upload([k, n], rhs_transposed, dtype, device);
                let bias =
                    CubeBackend::float_from_data(TensorData::ones::<f32, _>([2 * n]).convert_dtype(dtype), device);
                let expected =
                    read(CubeBackend::float_add_scalar(tiled_gemm(lhs.clone(), rhs.clone(), None), 1.into()));
                for cut in cuts {
                    let out = empty_like(&lhs, Shape::new([2, m, n]), dtype);
                    launch(lhs.clone(), rhs.clone(), Bias::Added(bias.clone()), &out, *cut, multiply);
                    let what = format!("{dtype:?}, {m} × {n} × {k}, {lhs_transposed}, {rhs_transposed}, {cut:?}");
                    assert_eq!(read(out), expected, "{what}");
                }
            }
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn every_cut_is_the_tiled_product() {
        let sizes = [[8, 8, 8], [16, 24, 40], [136, 264, 72], [256, 512, 96], [328, 40, 1000]];
        let layouts = [[false, false], [false, true], [true, false], [true, true]];
        for dtype in [DType::BF16, DType::F16] {
            compare("cuda", dtype, &sizes, &layouts, &super::super::cut::CUTS, Multiply::Instruction);
        }
    }

    /// Without tensor cores: all but the instructions themselves, by a single plane, since every unit is a thread.
    #[cfg(feature = "cpu")]
    #[test]
    fn a_plane_computes_the_tiled_product() {
        let cut = |depth| Cut { planes_m: 1, planes_n: 1, rows: 4, cols: 8, depth };
        // Fewer terms than a step has, and more than there is room for; rows and columns beyond the tile.
        let layouts = ([[false, false], [true, true]], [[false, true], [true, false]]);
        for (depth, size, layouts) in [(32, [8, 72, 136], layouts.0), (64, [72, 40, 72], layouts.1)] {
            compare("cpu", DType::F32, &[size], &layouts, &[cut(depth)], Multiply::Emulated);
        }
    }
}
