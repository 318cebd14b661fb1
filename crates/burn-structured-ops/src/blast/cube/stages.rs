//! The batched GEMMs on either side of the coupling, by Burn's matmul or our own.

use crate::blast::{BlastStrategy, reference};
use crate::cube::empty_like;
use crate::gemm::{burn_gemm, tiled_gemm};
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// `y_i = t_i F_iᵀ`, each block written into its columns of `y [tokens, b p]` by the GEMM itself.
pub(super) fn expand(t: CubeTensor, factor: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    let [blocks, p, _] = factor.shape().dims();
    let tokens = t.shape()[1];
    let y = empty_like(&t, Shape::new([tokens, blocks * p]), t.dtype);
    if y.meta.num_elements() == 0 || t.meta.num_elements() == 0 {
        return reference::expand::<CubeBackend>(t, factor);
    }
    let by_block = reference::split::<CubeBackend>(y.clone(), blocks);
    let factor = CubeBackend::float_swap_dims(factor, 1, 2);
    gemm(t, factor, Some(by_block), strategy);
    y
}

/// `z_j = x_j F_j`, each block read from its columns of `x [tokens, b q]`.
pub(super) fn project(x: CubeTensor, factor: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    if x.meta.num_elements() == 0 || factor.meta.num_elements() == 0 {
        return reference::project::<CubeBackend>(x, factor);
    }
    let blocks = factor.shape()[0];
    gemm(reference::split::<CubeBackend>(x, blocks), factor, None, strategy)
}

/// `dF_j = x_jᵀ z_j`.
pub(super) fn factor_gradient(x: CubeTensor, z: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    if x.meta.num_elements() == 0 || z.meta.num_elements() == 0 {
        return reference::factor_gradient::<CubeBackend>(x, z);
    }
    let blocks = z.shape()[0];
    let by_block = CubeBackend::float_swap_dims(reference::split::<CubeBackend>(x, blocks), 1, 2);
    gemm(by_block, z, None, strategy)
}

fn gemm(lhs: CubeTensor, rhs: CubeTensor, out: Option<CubeTensor>, strategy: BlastStrategy) -> CubeTensor {
    match strategy {
        BlastStrategy::Portable => tiled_gemm(lhs, rhs, out),
        _ => burn_gemm(lhs, rhs, out),
    }
}
