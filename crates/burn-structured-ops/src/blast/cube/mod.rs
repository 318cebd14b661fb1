//! BLAST on every CubeCL runtime: CUDA, ROCm, Vulkan, Metal, WebGPU and the CubeCL CPU.
//!
//! Several ways through the product, chosen by `strategy` or, measured on the device, by `tune`:
//!
//! - **staged**: two batched GEMMs around the coupling kernel. The GEMMs are Burn's, with tensor cores where the device
//!   has them; they read a copy of the blocks of `x`, and write the blocks of `y` through strides;
//! - **tensor core**: the same around the half-precision GEMM of `crate::gemm`, which adds the bias as well;
//! - **portable**: the same around the GEMM of `crate::gemm` that runs anywhere;
//! - **fused**: projection and coupling in one kernel that keeps `z` in registers, then the second GEMM;
//! - **decode**: a few tokens in one or two launches that read every weight once.
//!
//! The backward pass is staged; both gradients that pass through the coupling come from one reading of `dt` and `z`.

mod coupling;
mod decode;
mod fused;
mod stages;
mod strategy;
mod tune;

use super::{BlastBackend, BlastCandidate, BlastStrategy, Sizes, UnsupportedStrategy, reference, shapes};
use crate::Bias;
use crate::cube::Limits;
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use strategy::{Path, Problem};

impl BlastBackend for CubeBackend {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        forward(x, u, s, v, bias, strategy, false).0
    }

    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, z) = forward(x, u, s, v, bias, strategy, true);
        (y, z.expect("the projections were asked for"))
    }

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::projection, [&x, &factor]);
        stages::project(x, factor, strategy)
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling, [&z, &s]);
        coupling::couple(z, s)
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::expansion, [&t, &factor]);
        stages::expand(t, factor, Bias::None, strategy)
    }

    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling_gradient, [&t_grad, &z]);
        coupling::coupling_gradient(t_grad, z)
    }

    fn blast_coupling_backward(
        t_grad: FloatTensor<Self>,
        z: FloatTensor<Self>,
        s: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        check(shapes::coupling_backward, [&t_grad, &z, &s]);
        coupling::coupling_backward(t_grad, z, s)
    }

    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::factor_gradient, [&x, &z]);
        stages::factor_gradient(x, z, strategy)
    }
}

/// `y`, and `z` if it is asked for.
fn forward(
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: Bias<CubeBackend>,
    strategy: BlastStrategy,
    keep: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    check(shapes::product, [&x, &u, &s, &v]);
    let sizes = Sizes::new(&x, &u, &v);
    bias.check(sizes.b1 * sizes.p, x.dtype);
    if strategy == BlastStrategy::Reference || sizes.is_empty() {
        let (y, z) = reference::forward::<CubeBackend>(x, u, s, v, bias);
        return (y, keep.then_some(z));
    }
    let problem = Problem { sizes, dtype: x.dtype, keeps_projections: keep };
    let path = strategy::path(strategy, problem, Limits::of(&x.client));
    // A handful of tokens is bound by launches, which looking a measurement up would hold back.
    let known = matches!(path, Path::Decode | Path::TensorCore);
    let tuned = strategy == BlastStrategy::Auto && cfg!(feature = "autotune") && !known;
    if tuned || strategy == BlastStrategy::Candidate(BlastCandidate::Autotuned) {
        return tune::forward(x, u, s, v, bias, problem);
    }
    run(path, x, u, s, v, bias, problem)
}

/// The product by one path.
fn run(
    path: Path,
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: Bias<CubeBackend>,
    problem: Problem,
) -> (CubeTensor, Option<CubeTensor>) {
    let keep = problem.keeps_projections;
    let gemms = match path {
        Path::TiledGemm => BlastStrategy::Candidate(BlastCandidate::TiledGemm),
        Path::TensorCore => BlastStrategy::Candidate(BlastCandidate::TensorCore),
        _ => BlastStrategy::Staged,
    };
    let (t, z) = match path {
        Path::Decode => return (decode::decode(x, u, s, v, bias, problem), None),
        Path::Fused => fused::project_couple(x, v, s, keep),
        Path::Staged | Path::TensorCore | Path::TiledGemm => {
            let z = stages::project(x, v, gemms);
            let couple = if path == Path::TensorCore { coupling::couple } else { coupling::couple_plainly };
            (couple(z.clone(), s), keep.then_some(z))
        }
    };
    (stages::expand(t, u, bias, gemms), z)
}

/// `factor [.., .., r]`, copied unless its ranks are neighbours.
fn by_rank(factor: CubeTensor) -> CubeTensor {
    if factor.meta.strides()[2] == 1 || factor.meta.shape()[2] == 1 { factor } else { into_contiguous(factor) }
}

/// See [`super::blast_unsupported`].
pub(super) fn rejection(
    strategy: BlastStrategy,
    sizes: Sizes,
    dtype: DType,
    device: &CubeDevice,
) -> Option<UnsupportedStrategy> {
    let problem = Problem { sizes, dtype, keeps_projections: false };
    strategy::rejection(strategy, problem, Limits::of(&device.client()))
}
