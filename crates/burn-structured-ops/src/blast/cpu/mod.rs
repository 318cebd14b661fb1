//! BLAST on Flex, straight on the tensors' own storage.
//!
//! Two ways through the product, by size:
//!
//! - **blocked** (many tokens): every thread takes tiles of tokens through all three stages, so that `z` and `t` of a
//!   tile stay in its cache; GEMMs read `x` and write `y` in place through strides;
//! - **staged**: each stage over all tokens, in parallel over tiles or within blocks; the backward pass uses it, and so
//!   does a forward pass with fewer tiles than threads, down to a single token (decoding). A path that read the factors
//!   straight through, without a GEMM, was measured against it and was slower.
//!
//! Intermediates are laid out token by token (`[tokens, b, r]` in memory, `[b, tokens, r]` by shape): a tile of tokens
//! is then one contiguous chunk, which rayon can hand to a thread without any unsafe sharing.
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

mod coupling;
mod forward;
mod stages;

use super::{BlastBackend, BlastStrategy, Sizes, reference};
use crate::Bias;
use crate::cpu::{Scalar, from_native, in_native, to_native, with_native};
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

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        in_native([x, factor], |[x, factor]| with_native!(x.dtype(), E => stages::project::<E>(&x, &factor)))
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        in_native([z, s], |[z, s]| with_native!(z.dtype(), E => stages::couple::<E>(z, s)))
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        in_native([t, factor], |[t, factor]| with_native!(t.dtype(), E => stages::expand::<E>(t, &factor, None)))
    }

    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        in_native([t_grad, z], |[t_grad, z]| with_native!(z.dtype(), E => stages::coupling_gradient::<E>(t_grad, z)))
    }

    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        in_native([x, z], |[x, z]| with_native!(z.dtype(), E => stages::factor_gradient::<E>(&x, &z)))
    }
}

/// `y`, and `z` if it is asked for.
fn forward(
    x: FlexTensor,
    u: FlexTensor,
    s: FlexTensor,
    v: FlexTensor,
    bias: Bias<Flex>,
    strategy: BlastStrategy,
    save: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let sizes = Sizes::new(&x, &u, &v);
    if strategy == BlastStrategy::Reference || sizes.is_empty() {
        let (y, z) = reference::forward::<Flex>(x, u, s, v, bias);
        return (y, save.then_some(z));
    }
    let dtype = x.dtype();
    let bias = match bias {
        Bias::Absent => None,
        Bias::Added(bias) => Some(to_native(bias)),
    };
    let [x, u, s, v] = [x, u, s, v].map(to_native);
    let (y, z) = with_native!(x.dtype(), E => {
        forward::run::<E>(sizes, &x, &u, &s, &v, bias.as_ref(), strategy, save)
    });
    (from_native(y, dtype), z.map(|z| from_native(z, dtype)))
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
