//! BLAST on every CubeCL runtime: CUDA, ROCm, Vulkan, Metal, WebGPU and the CubeCL CPU.
//!
//! The two batched GEMMs are Burn's (autotuned where that is enabled), or the one of `crate::gemm` where Burn's cannot
//! run; both read the blocks of `x` and write the blocks of `y` through strides. The coupling and its gradient are kernels
//! of ours: as tensor operations they would each write a product of size `[b1, b2, tokens, r]`, or copy `z` and `t` into
//! another order.

mod kernel;
mod launch;
mod strategy;

use super::{BlastBackend, BlastStrategy, Sizes, reference};
use crate::Bias;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;

impl BlastBackend for CubeBackend {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        Self::blast_forward_saving(x, u, s, v, bias, strategy).0
    }

    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let sizes = Sizes::new(&x, &u, &v);
        if strategy == BlastStrategy::Reference || sizes.is_empty() {
            return reference::forward::<Self>(x, u, s, v, bias);
        }
        let z = Self::blast_project(x, v, strategy);
        let t = Self::blast_couple(z.clone(), s);
        let y = Self::blast_expand(t, u, strategy);
        (bias.add_to(y), z)
    }

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        launch::project(x, factor, strategy)
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        launch::couple(z, s)
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        launch::expand(t, factor, strategy)
    }

    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        launch::coupling_gradient(t_grad, z)
    }

    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        launch::factor_gradient(x, z, strategy)
    }
}
