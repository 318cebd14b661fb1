//! Runs a product forward and backward on any backend.

use super::case::Case;
use crate::tensors::{Layout, place, read};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn::tensor::{DType, Shape};
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_structured_ops::blast::BlastBackend;
use burn_structured_ops::{BlastStrategy, OptionalTensor};

/// Which operands are tracked.
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    pub x: bool,
    pub u: bool,
    pub s: bool,
    pub v: bool,
    /// `None` computes without a bias.
    pub bias: Option<bool>,
}

impl Tracked {
    pub const ALL: Self = Self { x: true, u: true, s: true, v: true, bias: Some(true) };

    /// Every combination.
    pub fn combinations() -> impl Iterator<Item = Self> {
        (0..48u32).map(|bits| {
            let flag = |bit: u32| bits & (1 << bit) != 0;
            let bias = [None, Some(false), Some(true)][(bits >> 4) as usize];
            Self { x: flag(0), u: flag(1), s: flag(2), v: flag(3), bias }
        })
    }
}

/// What a run produced; an untracked gradient is `None`.
#[derive(Debug)]
pub struct Outcome {
    pub y: Vec<f64>,
    pub dx: Option<Vec<f64>>,
    pub du: Option<Vec<f64>>,
    pub ds: Option<Vec<f64>>,
    pub dv: Option<Vec<f64>>,
    pub dbias: Option<Vec<f64>>,
}

/// `y` and the gradients of `sum(y * g)`.
pub fn forward_backward<B: BlastBackend, C: CheckpointStrategy>(
    case: &Case,
    dtype: DType,
    layout: Layout,
    strategy: BlastStrategy,
    tracked: Tracked,
    device: &B::Device,
) -> Outcome {
    type Ad<B, C> = Autodiff<B, C>;
    let sizes = case.sizes;
    let leaf = |values: &[f64], shape: &[usize], track: bool| -> FloatTensor<Ad<B, C>> {
        let tensor = Ad::<B, C>::float_from_data_inner(place::<B>(values, shape, dtype, layout, device));
        if track { Ad::<B, C>::float_set_require_grad(tensor, true) } else { tensor }
    };
    let x = if layout == Layout::Broadcast {
        let row = place::<B>(&case.x[..sizes.n()], &[1, sizes.n()], dtype, layout, device);
        let x = Ad::<B, C>::float_from_data_inner(row);
        let x = if tracked.x { Ad::<B, C>::float_set_require_grad(x, true) } else { x };
        (x.clone(), Ad::<B, C>::float_expand(x, Shape::new([sizes.tokens, sizes.n()])))
    } else {
        let x = leaf(&case.x, &[sizes.tokens, sizes.n()], tracked.x);
        (x.clone(), x)
    };
    let (x_leaf, x) = x;
    let u = leaf(&case.u, &[sizes.b1, sizes.p, sizes.r], tracked.u);
    let s = leaf(&case.s, &[sizes.b1, sizes.b2, sizes.r], tracked.s);
    let v = leaf(&case.v, &[sizes.b2, sizes.q, sizes.r], tracked.v);
    let bias_leaf = tracked.bias.map(|track| leaf(&case.bias, &[sizes.m()], track));
    let bias = bias_leaf.clone().map_or(OptionalTensor::None, OptionalTensor::Some);

    let y = Ad::<B, C>::blast_forward(x, u.clone(), s.clone(), v.clone(), bias.into(), strategy);
    let output = read::<B>(y.clone().into_primitive());
    let any = tracked.x || tracked.u || tracked.s || tracked.v || tracked.bias == Some(true);
    let mut outcome = Outcome { y: output, dx: None, du: None, ds: None, dv: None, dbias: None };
    if any {
        let g = leaf(&case.g, &[sizes.tokens, sizes.m()], false);
        let grads = Ad::<B, C>::float_mul(y, g).backward();
        let gradient = |tensor: &FloatTensor<Ad<B, C>>| tensor.grad(&grads).map(read::<B>);
        outcome.dx = gradient(&x_leaf);
        outcome.du = gradient(&u);
        outcome.ds = gradient(&s);
        outcome.dv = gradient(&v);
        outcome.dbias = bias_leaf.as_ref().and_then(gradient);
    }
    outcome
}

/// Wraps an inner primitive; the extension point differs from `float_from_data` in keeping its layout.
trait FromInner<B: Backend>: Backend {
    fn float_from_data_inner(tensor: FloatTensor<B>) -> FloatTensor<Self>;
}

impl<B: Backend, C: CheckpointStrategy> FromInner<B> for Autodiff<B, C> {
    fn float_from_data_inner(tensor: FloatTensor<B>) -> FloatTensor<Self> {
        <Self as burn::backend::AutodiffBackend>::from_inner(tensor)
    }
}
