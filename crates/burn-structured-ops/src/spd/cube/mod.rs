//! Systems on every CubeCL runtime: CUDA, ROCm, Vulkan, Metal, WebGPU and the CubeCL CPU.
//!
//! A cube factors a matrix, and a unit solves for a right-hand side: batches and many right-hand sides fill a GPU, one
//! system alone does not. The gradient of the matrix is a batched GEMM.

mod kernel;
mod launch;

use super::{SpdBackend, SpdStrategy, computed, reference, shapes};
use crate::cube::gemm::{burn_gemm, tiled_gemm};
use crate::operands::check;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;

impl SpdBackend for CubeBackend {
    fn spd_factor(a: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        shapes::factor(&a.shape());
        if strategy == SpdStrategy::Reference {
            return reference::factor::<Self>(a);
        }
        let dtype = computed(a.dtype());
        launch::factor(reference::cast::<Self>(a, dtype))
    }

    fn spd_substitute(factor: FloatTensor<Self>, b: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        shapes::check_solution(&factor, &b);
        if strategy == SpdStrategy::Reference {
            return reference::substitute::<Self>(factor, b);
        }
        let dtype = b.dtype();
        let b = reference::cast::<Self>(b, factor.dtype());
        reference::cast::<Self>(launch::substitute(factor, b), dtype)
    }

    fn spd_matrix_gradient(db: FloatTensor<Self>, x: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        check(shapes::matrix_gradient, [&db, &x]);
        let x = Self::float_swap_dims(x, 1, 2);
        let product = match strategy {
            SpdStrategy::Reference => Self::float_matmul(db, x),
            SpdStrategy::TiledGemm => tiled_gemm(db, x, None),
            SpdStrategy::Auto => burn_gemm(db, x, None),
        };
        reference::symmetrised::<Self>(product)
    }
}
