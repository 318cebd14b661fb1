//! The hand-written backward pass.
//!
//! The fold is linear, so its gradient is its transpose. A product with a sketch for each block of rows keeps `x` and
//! `z` alone, never a sketch.

use super::{Fold, Ss1Backend, Ss1Strategy};
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

impl<B: Ss1Backend, C: CheckpointStrategy> Ss1Backend for Autodiff<B, C> {
    fn ss1_fold(x: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        match Folding.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((fold, output_block), B::ss1_fold(x.into_primitive(), fold, output_block))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::ss1_fold(x.into_primitive(), fold, output_block)),
        }
    }

    fn ss1_unfold(a: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        match Unfolding.prepare::<C>([a.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((fold, output_block), B::ss1_unfold(a.into_primitive(), fold, output_block))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::ss1_unfold(a.into_primitive(), fold, output_block)),
        }
    }

    fn ss1_product(x: FloatTensor<Self>, z: FloatTensor<Self>, fold: Fold, strategy: Ss1Strategy) -> FloatTensor<Self> {
        match Product.prepare::<C>([x.node(), z.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                // Each gradient needs the other operand.
                let saved = Saved {
                    x: z.is_tracked().then(|| prep.checkpoint(&x)),
                    z: x.is_tracked().then(|| prep.checkpoint(&z)),
                    fold,
                    strategy,
                };
                prep.finish(saved, B::ss1_product(x.into_primitive(), z.into_primitive(), fold, strategy))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::ss1_product(x.into_primitive(), z.into_primitive(), fold, strategy))
            }
        }
    }
}

#[derive(Debug)]
struct Folding;

impl<B: Ss1Backend> Backward<B, 1> for Folding {
    type State = (Fold, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (fold, output_block) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::ss1_unfold(gradient, fold, output_block));
        }
    }
}

#[derive(Debug)]
struct Unfolding;

impl<B: Ss1Backend> Backward<B, 1> for Unfolding {
    type State = (Fold, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (fold, output_block) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::ss1_fold(gradient, fold, output_block));
        }
    }
}

#[derive(Debug)]
struct Product;

#[derive(Clone, Debug)]
struct Saved {
    x: Option<NodeId>,
    z: Option<NodeId>,
    fold: Fold,
    strategy: Ss1Strategy,
}

impl<B: Ss1Backend> Backward<B, 2> for Product {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, z, fold, strategy } = ops.state;
        let [x_node, z_node] = ops.parents;
        if let (Some(node), Some(id)) = (x_node, z) {
            let z: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, B::ss1_input_gradient(dy.clone(), z, fold, strategy));
        }
        if let (Some(node), Some(id)) = (z_node, x) {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, B::ss1_weight_gradient(x, dy, fold, strategy));
        }
    }
}
