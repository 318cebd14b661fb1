//! BLAST on every CubeCL runtime: CUDA, ROCm, Vulkan, Metal, WebGPU and the CubeCL CPU.
//!
//! [`strategy`] resolves a [`BlastStrategy`] to one that runs, [`autotuned`] measures them on the device:
//!
//! | strategy     | kernels |
//! |--------------|---------|
//! | `Staged`     | two of Burn's batched GEMMs around the coupling kernel; they copy the blocks of `x` and write the blocks of `y` through strides |
//! | `TensorCore` | the same around this crate's half-precision GEMM, which adds the bias in its epilogue |
//! | `TiledGemm`  | the same around this crate's GEMM for every device |
//! | `Fused`      | projection and coupling in one kernel that keeps `z` in registers, then the second GEMM |
//! | `Decode`     | up to 8 tokens in one or two launches that read every weight once |
//!
//! The backward pass is staged; both gradients of the coupling come from one reading of `dt` and `z`.

mod autotuned;
mod coupling;
mod decode;
mod fused;
mod staged;
mod strategy;

use super::BlastCandidate::{Autotuned, TensorCore, TiledGemm};
use super::BlastStrategy::Candidate;
use super::{BlastBackend, BlastStrategy, Sizes, UnsupportedStrategy, reference, shapes};
use crate::cube::Limits;
use crate::operands::check;
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use strategy::{Problem, Resolved};

impl BlastBackend for CubeBackend {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        epilogue.check([x.shape()[0], u.shape()[0] * u.shape()[1]], x.dtype);
        let (bias, rest) = epilogue.split_bias();
        rest.apply(forward(x, u, s, v, bias, strategy, false).0)
    }

    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: OptionalTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, z) = forward(x, u, s, v, bias, strategy, true);
        (y, z.expect("the projections are kept"))
    }

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::projection, [&x, &factor]);
        staged::project(x, factor, strategy)
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling, [&z, &s]);
        coupling::couple(z, s)
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::expansion, [&t, &factor]);
        staged::expand(t, factor, OptionalTensor::None, strategy)
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
        staged::factor_gradient(x, z, strategy)
    }
}

/// `y`, and `z` if `keep`.
fn forward(
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    strategy: BlastStrategy,
    keep: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    check(shapes::product, [&x, &u, &s, &v]);
    let sizes = Sizes::new(&x, &u, &v);
    bias.check_bias(sizes.b1 * sizes.p, x.dtype);
    if strategy == BlastStrategy::Reference || sizes.is_empty() {
        let (y, z) = reference::forward::<CubeBackend>(x, u, s, v, bias.into());
        return (y, keep.then_some(z));
    }
    let problem = Problem { sizes, dtype: x.dtype, keeps_projections: keep };
    let resolved = strategy::resolve(strategy, problem, Limits::of(&x.client));
    // Up to 8 tokens are bound by launches, which looking a measurement up would delay.
    let known = matches!(resolved, Resolved::Decode | Resolved::TensorCore);
    let tuned = strategy == BlastStrategy::Auto && cfg!(feature = "autotune") && !known;
    if tuned || strategy == Candidate(Autotuned) {
        return autotuned::forward(x, u, s, v, bias, problem);
    }
    run(resolved, x, u, s, v, bias, problem)
}

/// The product by a resolved strategy.
fn run(
    strategy: Resolved,
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    problem: Problem,
) -> (CubeTensor, Option<CubeTensor>) {
    let keep = problem.keeps_projections;
    let gemms = match strategy {
        Resolved::TiledGemm => Candidate(TiledGemm),
        Resolved::TensorCore => Candidate(TensorCore),
        _ => BlastStrategy::Staged,
    };
    let (t, z) = match strategy {
        Resolved::Decode => return (decode::decode(x, u, s, v, bias, problem), None),
        Resolved::Fused => fused::project_couple(x, v, s, keep),
        Resolved::Staged | Resolved::TensorCore | Resolved::TiledGemm => {
            let z = staged::project(x, v, gemms);
            let couple = if strategy == Resolved::TensorCore { coupling::couple } else { coupling::couple_simt };
            (couple(z.clone(), s), keep.then_some(z))
        }
    };
    (staged::expand(t, u, bias, gemms), z)
}

/// `factor [.., .., r]`, copied unless its last axis is contiguous.
fn by_rank(factor: CubeTensor) -> CubeTensor {
    if factor.meta.strides()[2] == 1 || factor.meta.shape()[2] == 1 { factor } else { into_contiguous(factor) }
}

/// See [`super::blast_unsupported`].
pub(super) fn unsupported(
    strategy: BlastStrategy,
    sizes: Sizes,
    dtype: DType,
    device: &CubeDevice,
) -> Option<UnsupportedStrategy> {
    let problem = Problem { sizes, dtype, keeps_projections: false };
    strategy::unsupported(strategy, problem, Limits::of(&device.client()))
}
