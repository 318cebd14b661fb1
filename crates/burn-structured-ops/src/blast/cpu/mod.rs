//! BLAST on Flex, on the tensors' own storage.
//!
//! ```text
//! forward.rs      which strategy for which sizes
//! fused.rs        projection and coupling by rank blocks (projection.rs, coupling.rs, tiling.rs), then expansion.rs
//! gradients.rs    the backward pass by rank blocks
//! decode.rs       up to 8 tokens: the factors are read once, without packing
//! staged.rs       each stage over all tokens; gradients of some factors only
//! ```
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

mod coupling;
mod decode;
mod expansion;
mod forward;
mod fused;
mod gradients;
mod layout;
mod projection;
mod staged;
mod tiling;

use super::backward::staged_gradients;
use super::{BlastBackend, BlastStrategy, shapes};
use crate::cpu::gemm::Finish;
use crate::cpu::{Scalar, in_native, with_native};
use crate::operands::check;
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, Shape};
use burn_flex::{FlexTensor, Layout};

impl BlastBackend for Flex {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        forward::forward(x, u, s, v, epilogue, strategy, false).0
    }

    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: OptionalTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, z) = forward::forward(x, u, s, v, bias.into(), strategy, true);
        (y, z.expect("the projections are kept"))
    }

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::projection, [&x, &factor]);
        in_native([x, factor], |[x, factor]| with_native!(x.dtype(), E => staged::project::<E>(x, &factor)))
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling, [&z, &s]);
        in_native([z, s], |[z, s]| with_native!(z.dtype(), E => staged::couple::<E>(z, s)))
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::expansion, [&t, &factor]);
        in_native(
            [t, factor],
            |[t, factor]| with_native!(t.dtype(), E => staged::expand::<E>(t, &factor, Finish::bias(None))),
        )
    }

    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling_gradient, [&t_grad, &z]);
        in_native([t_grad, z], |[t_grad, z]| with_native!(z.dtype(), E => staged::coupling_gradient::<E>(t_grad, z)))
    }

    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::factor_gradient, [&x, &z]);
        in_native([x, z], |[x, z]| with_native!(z.dtype(), E => staged::factor_gradient::<E>(&x, &z)))
    }

    fn blast_gradients(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        z: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        check(shapes::gradients, [&x, &u, &s, &v, &z, &dy]);
        match forward::gradients(&x, &u, &s, &v, &z, &dy, strategy) {
            Some([dx, du, ds, dv]) => (dx, du, ds, dv),
            None => staged_gradients::<Self>(x, u, s, v, z, dy, strategy),
        }
    }
}

/// A tensor of shape `[blocks, tokens, r]` over `data` in the order `[tokens, blocks, r]`.
fn token_major<E: Scalar>(data: Vec<E>, [blocks, tokens, r]: [usize; 3]) -> FlexTensor {
    let strides = vec![r as isize, (blocks * r) as isize, 1];
    let layout = Layout::new(Shape::new([blocks, tokens, r]), strides, 0);
    FlexTensor::new(Bytes::from_elems(data), layout, E::dtype())
}

/// The same values with their storage in the order `[tokens, blocks, r]`, exactly as long as it needs to be.
fn into_token_major(z: FlexTensor) -> FlexTensor {
    let [blocks, tokens, r] = z.layout().shape().dims();
    let by_token = Flex::float_swap_dims(z, 0, 1);
    let by_token = if by_token.is_contiguous() { by_token } else { by_token.to_contiguous() };
    let start = by_token.layout().start_offset();
    let layout = Layout::new(Shape::new([blocks, tokens, r]), vec![r as isize, (blocks * r) as isize, 1], start);
    by_token.with_layout(layout)
}
