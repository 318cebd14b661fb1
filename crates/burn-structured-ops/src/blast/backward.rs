//! The hand-written backward pass.
//!
//! With `dt = dy` projected by `U` and `dz` the transposed coupling of `dt`,
//!
//! ```text
//! dx_j = dz_j V_jᵀ      dV_j = x_jᵀ dz_j      ds_ij = Σ_tokens dt_i ∘ z_j      dU_i = dy_iᵀ t_i      dbias = Σ_tokens dy
//! ```
//!
//! Of the forward pass only `x` and `z` are kept, and each only if a gradient needs it; `t` is coupled again from `z`,
//! which costs a small fraction of the product. `x` and the factors are retrieved through Burn's checkpointer, so a
//! strategy that recomputes activations does so here as well.

use super::{BlastBackend, BlastStrategy, reference};
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind, OpsPrep, Tracked};

impl<B: BlastBackend, C: CheckpointStrategy> BlastBackend for Autodiff<B, C> {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        if strategy == BlastStrategy::Reference {
            return reference::forward::<Self>(x, u, s, v, epilogue).0;
        }
        let (bias, rest) = epilogue.split_bias();
        rest.apply(match bias {
            OptionalTensor::None => {
                let nodes = [x.node(), u.node(), s.node(), v.node()];
                record::<B, C, 4>(nodes, x, u, s, v, OptionalTensor::None, strategy)
            }
            OptionalTensor::Some(bias) => {
                let nodes = [x.node(), u.node(), s.node(), v.node(), bias.node()];
                record::<B, C, 5>(nodes, x, u, s, v, OptionalTensor::Some(bias.into_primitive()), strategy)
            }
        })
    }
}

/// Runs the forward pass on the inner backend and records the step that undoes it; `nodes` are the operands', in order.
fn record<B: BlastBackend, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<Autodiff<B, C>>,
    u: FloatTensor<Autodiff<B, C>>,
    s: FloatTensor<Autodiff<B, C>>,
    v: FloatTensor<Autodiff<B, C>>,
    bias: OptionalTensor<B>,
    strategy: BlastStrategy,
) -> FloatTensor<Autodiff<B, C>> {
    match BlastBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let saved = Saved::checkpoint(&mut prep, &x, &u, &s, &v, strategy);
            let (y, saved) =
                saved.forward(x.into_primitive(), u.into_primitive(), s.into_primitive(), v.into_primitive(), bias);
            prep.finish(saved, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::blast_forward(
            x.into_primitive(),
            u.into_primitive(),
            s.into_primitive(),
            v.into_primitive(),
            bias.into(),
            strategy,
        )),
    }
}

#[derive(Debug)]
struct BlastBackward;

/// What the backward pass finds again: the operands by node, and the projections `z` if a gradient needs them.
#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    x: Option<NodeId>,
    u: Option<NodeId>,
    s: Option<NodeId>,
    v: Option<NodeId>,
    z: Projection<B>,
    strategy: BlastStrategy,
}

#[derive(Clone, Debug)]
enum Projection<B: Backend> {
    NotNeeded,
    Needed,
    Kept(FloatTensor<B>),
}

impl<B: BlastBackend> Saved<B> {
    /// Registers what the tracked gradients need, and nothing else.
    fn checkpoint<C: CheckpointStrategy, const N: usize>(
        prep: &mut OpsPrep<BlastBackward, B, Self, C, N, Tracked>,
        x: &FloatTensor<Autodiff<B, C>>,
        u: &FloatTensor<Autodiff<B, C>>,
        s: &FloatTensor<Autodiff<B, C>>,
        v: &FloatTensor<Autodiff<B, C>>,
        strategy: BlastStrategy,
    ) -> Self {
        let (dx, du, ds, dv) = (x.is_tracked(), u.is_tracked(), s.is_tracked(), v.is_tracked());
        Self {
            x: dv.then(|| prep.checkpoint(x)),
            u: (dx || ds || dv).then(|| prep.checkpoint(u)),
            s: (dx || dv || du).then(|| prep.checkpoint(s)),
            v: dx.then(|| prep.checkpoint(v)),
            z: if du || ds { Projection::Needed } else { Projection::NotNeeded },
            strategy,
        }
    }

    fn forward(
        mut self,
        x: FloatTensor<B>,
        u: FloatTensor<B>,
        s: FloatTensor<B>,
        v: FloatTensor<B>,
        bias: OptionalTensor<B>,
    ) -> (FloatTensor<B>, Self) {
        let strategy = self.strategy;
        match self.z {
            Projection::NotNeeded => (B::blast_forward(x, u, s, v, bias.into(), strategy), self),
            _ => {
                let (y, z) = B::blast_forward_saving(x, u, s, v, bias, strategy);
                self.z = Projection::Kept(z);
                (y, self)
            }
        }
    }
}

impl<B: BlastBackend, const N: usize> Backward<B, N> for BlastBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let saved = ops.state;
        let strategy = saved.strategy;
        let mut parents = ops.parents.into_iter();
        let (x, u, s, v, bias) = (
            parents.next().flatten(),
            parents.next().flatten(),
            parents.next().flatten(),
            parents.next().flatten(),
            parents.next().flatten(),
        );

        if let Some(node) = bias {
            grads.register::<B>(node.id, crate::optional_tensor::sum_tokens::<B>(dy.clone()));
        }

        // Every operand is taken from the checkpointer once, whether or not its gradient is needed: it counts uses.
        let u_factor: Option<FloatTensor<B>> = saved.u.map(|id| checkpointer.retrieve_node_output(id));
        let s_factor: Option<FloatTensor<B>> = saved.s.map(|id| checkpointer.retrieve_node_output(id));
        let v_factor: Option<FloatTensor<B>> = saved.v.map(|id| checkpointer.retrieve_node_output(id));
        let input: Option<FloatTensor<B>> = saved.x.map(|id| checkpointer.retrieve_node_output(id));

        if let (Some(dx), Some(du), Some(ds), Some(dv)) = (&x, &u, &s, &v)
            && let (Some(x), Some(u), Some(s), Some(v), Projection::Kept(z)) =
                (&input, &u_factor, &s_factor, &v_factor, &saved.z)
        {
            let [x, u, s, v, z] = [x, u, s, v, z].map(Clone::clone);
            let gradients = B::blast_gradients(x, u, s, v, z, dy, strategy);
            grads.register::<B>(dx.id, gradients.0);
            grads.register::<B>(du.id, gradients.1);
            grads.register::<B>(ds.id, gradients.2);
            grads.register::<B>(dv.id, gradients.3);
            return;
        }

        if let (Some(node), Projection::Kept(z), Some(s)) = (&u, &saved.z, &s_factor) {
            let t = B::blast_couple(z.clone(), s.clone());
            grads.register::<B>(node.id, B::blast_factor_gradient(dy.clone(), t, strategy));
        }
        let Some(u_factor) = u_factor else {
            return; // only `u` or the bias is tracked
        };

        let dt = B::blast_project(dy, u_factor, strategy);
        let coupled = s_factor.filter(|_| x.is_some() || v.is_some());
        let dz = match (&s, saved.z, coupled) {
            (Some(node), Projection::Kept(z), Some(s_factor)) => {
                let (dz, ds) = B::blast_coupling_backward(dt, z, s_factor);
                grads.register::<B>(node.id, ds);
                dz
            }
            (Some(node), Projection::Kept(z), None) => {
                grads.register::<B>(node.id, B::blast_coupling_gradient(dt, z));
                return;
            }
            (_, _, Some(s_factor)) => B::blast_couple(dt, B::float_swap_dims(s_factor, 0, 1)),
            (_, _, None) => return,
        };
        if let (Some(node), Some(input)) = (v, input) {
            grads.register::<B>(node.id, B::blast_factor_gradient(input, dz.clone(), strategy));
        }
        if let (Some(node), Some(v_factor)) = (x, v_factor) {
            grads.register::<B>(node.id, B::blast_expand(dz, v_factor, strategy));
        }
    }
}

/// All four gradients, stage by stage.
#[allow(clippy::too_many_arguments)]
pub(super) fn staged_gradients<B: BlastBackend>(
    x: FloatTensor<B>,
    u: FloatTensor<B>,
    s: FloatTensor<B>,
    v: FloatTensor<B>,
    z: FloatTensor<B>,
    dy: FloatTensor<B>,
    strategy: BlastStrategy,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let t = B::blast_couple(z.clone(), s.clone());
    let du = B::blast_factor_gradient(dy.clone(), t, strategy);
    let dt = B::blast_project(dy, u, strategy);
    let (dz, ds) = B::blast_coupling_backward(dt, z, s);
    let dv = B::blast_factor_gradient(x, dz.clone(), strategy);
    let dx = B::blast_expand(dz, v, strategy);
    (dx, du, ds, dv)
}
