//! The stages around the coupling as batched GEMMs, Burn's or this crate's.

use crate::OptionalTensor;
use crate::blast::BlastCandidate::{Autotuned, TensorCore, TiledGemm};
use crate::blast::BlastStrategy::{Auto, Candidate};
use crate::blast::{BlastStrategy, reference};
use crate::cube::empty_like;
use crate::cube::gemm::tensor_core::{on_tensor_cores, tensor_core_gemm};
use crate::cube::gemm::{burn_gemm, tiled_gemm};
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// `y_i = t_i F_iᵀ + bias_i`, each block written into its columns of `y [tokens, b p]` by the GEMM itself.
pub(super) fn expand(
    t: CubeTensor,
    factor: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    strategy: BlastStrategy,
) -> CubeTensor {
    let [blocks, p, _] = factor.shape().dims();
    let tokens = t.shape()[1];
    let y = empty_like(&t, Shape::new([tokens, blocks * p]), t.dtype);
    if y.meta.num_elements() == 0 || t.meta.num_elements() == 0 {
        return bias.add_bias_to(reference::expand::<CubeBackend>(t, factor));
    }
    let by_block = reference::split::<CubeBackend>(y.clone(), blocks);
    let factor = CubeBackend::float_swap_dims(factor, 1, 2);
    if to_tensor_cores(&t, &factor, strategy) {
        tensor_core_gemm(t, factor, bias, Some(by_block));
        return y;
    }
    portable_gemm(t, factor, Some(by_block), strategy);
    bias.add_bias_to(y)
}

/// `z_j = x_j F_j`, each block read from its columns of `x [tokens, b q]`.
pub(super) fn project(x: CubeTensor, factor: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    if x.meta.num_elements() == 0 || factor.meta.num_elements() == 0 {
        return reference::project::<CubeBackend>(x, factor);
    }
    let blocks = factor.shape()[0];
    gemm(reference::split::<CubeBackend>(x, blocks), factor, strategy)
}

/// `dF_j = x_jᵀ z_j`.
pub(super) fn factor_gradient(x: CubeTensor, z: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    if x.meta.num_elements() == 0 || z.meta.num_elements() == 0 {
        return reference::factor_gradient::<CubeBackend>(x, z);
    }
    let blocks = z.shape()[0];
    let by_block = CubeBackend::float_swap_dims(reference::split::<CubeBackend>(x, blocks), 1, 2);
    gemm(by_block, z, strategy)
}

/// Whether `strategy` multiplies these operands on tensor cores.
fn to_tensor_cores(lhs: &CubeTensor, rhs: &CubeTensor, strategy: BlastStrategy) -> bool {
    matches!(strategy, Auto | Candidate(TensorCore | Autotuned)) && on_tensor_cores(lhs, rhs)
}

fn gemm(lhs: CubeTensor, rhs: CubeTensor, strategy: BlastStrategy) -> CubeTensor {
    if to_tensor_cores(&lhs, &rhs, strategy) {
        return tensor_core_gemm(lhs, rhs, OptionalTensor::None, None);
    }
    portable_gemm(lhs, rhs, None, strategy)
}

/// A product by the GEMMs for every device.
fn portable_gemm(lhs: CubeTensor, rhs: CubeTensor, out: Option<CubeTensor>, strategy: BlastStrategy) -> CubeTensor {
    match strategy {
        Candidate(TiledGemm) => tiled_gemm(lhs, rhs, out),
        _ => burn_gemm(lhs, rhs, out),
    }
}
