//! The hand-written backward pass.
//!
//! `x = a⁻¹ b` is differentiated as it stands, not through its factorization:
//!
//! ```text
//! db = a⁻¹ dx        da = −(db xᵀ + x dbᵀ) / 2
//! ```
//!
//! which costs one more substitution and one product. The factor is kept, and `x` if `a` is tracked.

use super::{SpdBackend, SpdStrategy, shapes};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

impl<B: SpdBackend, C: CheckpointStrategy> SpdBackend for Autodiff<B, C> {
    fn spd_factor(a: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        Self::from_inner(B::spd_factor(a.into_primitive(), strategy))
    }

    fn spd_substitute(factor: FloatTensor<Self>, b: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        let constant = Self::from_inner(factor.clone().into_primitive());
        Self::spd_solve(constant, factor, b, strategy)
    }

    fn spd_solve(
        a: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        b: FloatTensor<Self>,
        strategy: SpdStrategy,
    ) -> FloatTensor<Self> {
        shapes::solution(&a.shape(), &b.shape());
        let factor = factor.into_primitive();
        match Solve.prepare::<C>([a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let tracked = a.is_tracked();
                let x = B::spd_substitute(factor.clone(), b.into_primitive(), strategy);
                prep.finish(Saved { factor, x: tracked.then(|| x.clone()), strategy }, x)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::spd_substitute(factor, b.into_primitive(), strategy)),
        }
    }

    fn spd_matrix_gradient(db: FloatTensor<Self>, x: FloatTensor<Self>, _: SpdStrategy) -> FloatTensor<Self> {
        super::reference::matrix_gradient::<Self>(db, x)
    }
}

#[derive(Debug)]
struct Solve;

#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    factor: FloatTensor<B>,
    x: Option<FloatTensor<B>>,
    strategy: SpdStrategy,
}

impl<B: SpdBackend> Backward<B, 2> for Solve {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dx = grads.consume::<B>(&ops.node);
        let Saved { factor, x, strategy } = ops.state;
        let [a_node, b_node] = ops.parents;
        let db = B::spd_substitute(factor, dx, strategy);
        if let (Some(node), Some(x)) = (a_node, x) {
            grads.register::<B>(node.id, B::spd_matrix_gradient(db.clone(), x, strategy));
        }
        if let Some(node) = b_node {
            grads.register::<B>(node.id, db);
        }
    }
}
