//! The hand-written backward pass.
//!
//! Each gradient is a product with the other operand, which alone is kept for it.

use super::DenseBackend;
use crate::Bias;
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};

impl<B: DenseBackend, C: CheckpointStrategy> DenseBackend for Autodiff<B, C> {
    fn dense_product(x: FloatTensor<Self>, w: FloatTensor<Self>, bias: Bias<Self>) -> FloatTensor<Self> {
        match bias {
            Bias::Absent => record::<B, C, 2>([x.node(), w.node()], x, w, Bias::Absent),
            Bias::Added(bias) => {
                let nodes = [x.node(), w.node(), bias.node()];
                record::<B, C, 3>(nodes, x, w, Bias::Added(bias.into_primitive()))
            }
        }
    }
}

/// Runs the product on the inner backend and records the step that undoes it; `nodes` are the operands', in order.
fn record<B: DenseBackend, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    bias: Bias<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Product.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let saved = Saved {
                x: w.is_tracked().then(|| prep.checkpoint(&x)),
                w: x.is_tracked().then(|| prep.checkpoint(&w)),
            };
            prep.finish(saved, B::dense_product(x.into_primitive(), w.into_primitive(), bias))
        }
        OpsKind::UnTracked(prep) => prep.finish(B::dense_product(x.into_primitive(), w.into_primitive(), bias)),
    }
}

#[derive(Debug)]
struct Product;

#[derive(Clone, Debug)]
struct Saved {
    x: Option<NodeId>,
    w: Option<NodeId>,
}

impl<B: DenseBackend, const N: usize> Backward<B, N> for Product {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, w } = ops.state;
        let mut parents = ops.parents.into_iter();
        let [x_node, w_node, bias_node] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, crate::bias::sum_tokens::<B>(dy.clone()));
        }
        if let (Some(node), Some(id)) = (x_node, w) {
            let w: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, B::dense_input_gradient(dy.clone(), w));
        }
        if let (Some(node), Some(id)) = (w_node, x) {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, B::dense_factor_gradient(x, dy));
        }
    }
}
