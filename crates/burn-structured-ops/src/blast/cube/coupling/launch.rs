//! Host side of the kernels: shapes, layouts, launch sizes.

use super::super::{by_rank, strategy};
use super::kernel::{couple_kernel, coupling_backward_kernel, coupling_gradient_kernel};
use super::tiles::{TILE_BLOCKS, TILE_TOKENS, couple_tiles_kernel};
use crate::blast::reference;
use crate::cube::gemm::tensor_core::{MmaBackend, PLANE, VECTOR, has_tensor_cores};
use crate::cube::{
    accumulator, address_type, empty_like, fits_registers, grid_of_cubes, grid_of_units, kernel_dtypes, multiprocessors,
};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// `t_i = Σ_j s_ij ∘ z_j`, on tensor cores where there are enough blocks; `s` may be transposed.
pub(in crate::blast::cube) fn couple(z: CubeTensor, s: CubeTensor) -> CubeTensor {
    let s = by_rank(s);
    if in_tiles(&z, &s) { couple_tiles(z, s, PLANES, MmaBackend::Instruction) } else { couple_simt(z, s) }
}

/// [`couple`] without tensor cores.
pub(in crate::blast::cube) fn couple_simt(z: CubeTensor, s: CubeTensor) -> CubeTensor {
    let [out_blocks, in_blocks, r] = s.shape().dims();
    let tokens = z.shape()[1];
    let t = empty_like(&z, Shape::new([out_blocks, tokens, r]), z.dtype);
    if t.meta.num_elements() == 0 || in_blocks == 0 {
        return reference::couple::<CubeBackend>(z, s);
    }
    let z = into_contiguous(z);
    let s = by_rank(s);
    let (output_stride, input_stride) = (s.meta.strides()[0], s.meta.strides()[1]);

    let bytes = accumulator(z.dtype).size();
    let vector = |widest| {
        let sizes = z.client.io_optimized_vector_sizes(z.dtype.size()).filter(|size| *size <= widest);
        strategy::vector_size(sizes, &[r, output_stride, input_stride])
    };
    let group = strategy::output_group(out_blocks);
    let groups = out_blocks / group;
    let narrow = vector(strategy::COUPLING_VECTOR);
    let at_once = strategy::tokens_at_once(tokens, groups * r / narrow, group * narrow, bytes);
    let vector = if at_once > 1 { narrow } else { vector(usize::MAX) };
    let units = tokens.div_ceil(at_once) * groups * r / vector;
    let (cube_count, cube_dim) = grid_of_units(&z.client, units);
    let address = address_type([&z, &s, &t]);
    let dtypes = kernel_dtypes(z.dtype);
    // SAFETY: every unit below `units` reads `z`, which is contiguous, at a block below `in_blocks`, a token below `tokens` and
    // a vector below the rank, `s` at the strides of its own layout below its sizes, and writes `t`, which is contiguous, at
    // a block below `out_blocks` within the same bounds; the vector size divides the rank and both strides.
    unsafe {
        couple_kernel::launch_unchecked(
            &t.client,
            cube_count,
            cube_dim,
            address,
            vector,
            z.into_tensor_arg(),
            s.into_tensor_arg(),
            t.clone().into_tensor_arg(),
            in_blocks,
            tokens,
            r / vector,
            groups,
            output_stride / vector,
            input_stride / vector,
            units,
            group,
            at_once,
            dtypes,
        );
    }
    t
}

/// Whether the coupling goes to the tensor cores: enough blocks to be worth it, and no more than a tile has. The ranks of `s` are
/// neighbours.
fn in_tiles(z: &CubeTensor, s: &CubeTensor) -> bool {
    let [out_blocks, in_blocks, r] = s.shape().dims();
    let blocks = out_blocks.max(in_blocks) <= TILE_BLOCKS && out_blocks * in_blocks >= MIN_TILED_BLOCKS;
    let strides = &s.meta.strides()[..2];
    let vectors = strides.iter().chain([&r]).all(|extent| extent.is_multiple_of(VECTOR));
    blocks && vectors && z.meta.num_elements() != 0 && has_tensor_cores(&z.client, z.dtype)
}

/// Blocks of `s` from which on tiles of [`TILE_BLOCKS`] squared are worth it.
const MIN_TILED_BLOCKS: usize = 64;
/// Planes of a cube: with vectors of 16 bytes, whole lines of memory.
const PLANES: usize = 8;
/// Cubes for each multiprocessor, to hide memory latency.
const CUBES_EACH: usize = 4;

/// [`couple`] on tensor cores, of operands that go [`in_tiles`].
fn couple_tiles(z: CubeTensor, s: CubeTensor, planes: usize, mma: MmaBackend) -> CubeTensor {
    let [out_blocks, in_blocks, r] = s.shape().dims();
    let tokens = z.shape()[1];
    let t = empty_like(&z, Shape::new([out_blocks, tokens, r]), z.dtype);
    let z = into_contiguous(z);
    let (output_stride, input_stride) = (s.meta.strides()[0], s.meta.strides()[1]);
    let client = t.client.clone();
    let chunks = (r / VECTOR).div_ceil(planes);
    let all_tiles = tokens.div_ceil(TILE_TOKENS);
    let tiles = all_tiles.div_ceil((CUBES_EACH * multiprocessors(&client)).div_ceil(chunks));
    let cubes = chunks * all_tiles.div_ceil(tiles);
    let (cube_count, cube_dim) = grid_of_cubes(&client, cubes, PLANE * planes);
    let address = address_type([&z, &s, &t]);
    let dtype = dtype_to_storage_type(z.dtype);
    // SAFETY: a cube below `cubes` reads `z`, which is contiguous, at blocks below `in_blocks`, tokens below `tokens` and vectors
    // below the rank, `s` at the strides of its own layout below its sizes, and writes `t`, which is contiguous, at a block below
    // `out_blocks` within the same bounds; the vector size divides the rank and both strides.
    unsafe {
        couple_tiles_kernel::launch_unchecked(
            &client,
            cube_count,
            cube_dim,
            address,
            VECTOR,
            z.into_tensor_arg(),
            s.into_tensor_arg(),
            t.clone().into_tensor_arg(),
            out_blocks,
            in_blocks,
            tokens,
            r / VECTOR,
            output_stride / VECTOR,
            input_stride / VECTOR,
            tiles,
            cubes,
            planes,
            mma,
            dtype,
        );
    }
    t
}

/// `ds_ij = Σ_tokens dt_i ∘ z_j`.
pub(in crate::blast::cube) fn coupling_gradient(t_grad: CubeTensor, z: CubeTensor) -> CubeTensor {
    let [out_blocks, tokens, r] = t_grad.shape().dims();
    let in_blocks = z.shape()[0];
    let dtype = z.dtype;
    if t_grad.meta.num_elements() == 0 || z.meta.num_elements() == 0 {
        return reference::coupling_gradient::<CubeBackend>(t_grad, z);
    }
    let (t_grad, z) = (into_contiguous(t_grad), into_contiguous(z));
    // Partial sums are stored in the accumulator's type, which may be the wider one.
    let widest = dtype.size().max(accumulator(dtype).size());
    let vector = strategy::vector_size(z.client.io_optimized_vector_sizes(widest), &[r]);
    let per_chunk = out_blocks * in_blocks * r / vector;
    let chunk = strategy::token_chunk(tokens, per_chunk);
    let chunks = tokens.div_ceil(chunk);
    let accumulator = accumulator(dtype);
    let partial = empty_like(&z, Shape::new([chunks, out_blocks, in_blocks, r]), accumulator);

    let units = chunks * per_chunk;
    let (cube_count, cube_dim) = grid_of_units(&z.client, units);
    let address = address_type([&t_grad, &z, &partial]);
    // SAFETY: every unit below `units` writes its own vector of `partial`, which has exactly `units` of them, and reads
    // `t_grad` and `z`, both contiguous, at a token below `tokens` of a block below their number of blocks.
    unsafe {
        coupling_gradient_kernel::launch_unchecked(
            &partial.client,
            cube_count,
            cube_dim,
            address,
            vector,
            t_grad.into_tensor_arg(),
            z.into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            out_blocks,
            in_blocks,
            tokens,
            chunk,
            r / vector,
            units,
            kernel_dtypes(dtype),
        );
    }

    summed(partial, dtype)
}

/// `dz_j = Σ_i s_ij ∘ dt_i` and `ds_ij = Σ_tokens dt_i ∘ z_j`, in one pass over `dt` and `z` where registers allow.
pub(in crate::blast::cube) fn coupling_backward(
    t_grad: CubeTensor,
    z: CubeTensor,
    s: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let [out_blocks, tokens, r] = t_grad.shape().dims();
    let in_blocks = z.shape()[0];
    let dtype = z.dtype;
    let empty = t_grad.meta.num_elements() == 0 || z.meta.num_elements() == 0;
    let widest = dtype.size().max(accumulator(dtype).size());
    let group = strategy::input_group(out_blocks, in_blocks, widest);
    let Some(group) = group.filter(|_| !empty) else {
        let s = CubeBackend::float_swap_dims(s, 0, 1);
        return (couple(t_grad.clone(), s), coupling_gradient(t_grad, z));
    };
    let (t_grad, z) = (into_contiguous(t_grad), into_contiguous(z));
    let s = by_rank(s);
    let (output_stride, input_stride) = (s.meta.strides()[0], s.meta.strides()[1]);
    let sizes = z.client.io_optimized_vector_sizes(widest);
    let sizes = sizes.filter(|size| fits_registers(out_blocks * group * size, widest));
    let vector = strategy::vector_size(sizes, &[r, output_stride, input_stride]);

    let groups = in_blocks.div_ceil(group);
    let chunk = strategy::backward_chunk(tokens, out_blocks, in_blocks);
    let chunks = tokens.div_ceil(chunk);
    let z_grad = empty_like(&z, z.shape(), dtype);
    let accumulator = accumulator(dtype);
    let partial = empty_like(&z, Shape::new([chunks, out_blocks, in_blocks, r]), accumulator);

    let units = chunks * groups * r / vector;
    let (cube_count, cube_dim) = grid_of_units(&z.client, units);
    let address = address_type([&t_grad, &z, &s, &z_grad, &partial]);
    // SAFETY: every unit below `units` reads `t_grad` and `z`, both contiguous, at a token below `tokens` of a block below
    // their number of blocks, and `s` at the strides of its own layout below its sizes; it writes the vectors of `z_grad`
    // and `partial` of its own rank, blocks and chunk, which are within them. The vector size divides the rank and both
    // strides.
    unsafe {
        coupling_backward_kernel::launch_unchecked(
            &partial.client,
            cube_count,
            cube_dim,
            address,
            vector,
            t_grad.into_tensor_arg(),
            z.into_tensor_arg(),
            s.into_tensor_arg(),
            z_grad.clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            in_blocks,
            tokens,
            chunk,
            r / vector,
            output_stride / vector,
            input_stride / vector,
            units,
            out_blocks,
            group,
            kernel_dtypes(dtype),
        );
    }
    (z_grad, summed(partial, dtype))
}

/// The sum of `partial [chunks, b1, b2, r]` over its chunks, in `dtype`.
fn summed(partial: CubeTensor, dtype: DType) -> CubeTensor {
    let [chunks, out_blocks, in_blocks, r] = partial.shape().dims();
    let total = if chunks == 1 { partial } else { CubeBackend::float_sum_dim(partial, 0) };
    let total = CubeBackend::float_reshape(total, Shape::new([out_blocks, in_blocks, r]));
    match dtype {
        DType::F16 => CubeBackend::float_cast(total, FloatDType::F16),
        DType::BF16 => CubeBackend::float_cast(total, FloatDType::BF16),
        _ => total,
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::cube::testing::{device, read, whole_numbers};

    #[test]
    fn couple_tiles_matches_couple_simt() {
        let device = device("cpu");
        // A full tile and a part of one, several tiles and vectors and the rest of them.
        for [out_blocks, in_blocks, tokens, r] in [[16, 16, 9, 24], [9, 11, 3, 8]] {
            let (z, s) = (
                whole_numbers([in_blocks, tokens, r], 7, &device),
                whole_numbers([out_blocks, in_blocks, r], 5, &device),
            );
            let expected = read(couple(z.clone(), s.clone()));
            assert_eq!(
                read(couple_tiles(z, s, 2, MmaBackend::Emulated)),
                expected,
                "{out_blocks} × {in_blocks} blocks, {tokens} tokens, rank {r}"
            );
        }
    }
}
