//! The hand-written backward pass.
//!
//! The gradient of the input is a product with the transposed blocks and the orders swapped; that of the blocks is one
//! small product a block. Only the operands that a tracked gradient needs are kept.

use super::{BlockDiagonalBackend, BlockStrategy, Orders, reference};
use crate::Bias;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};

impl<B: BlockDiagonalBackend, C: CheckpointStrategy> BlockDiagonalBackend for Autodiff<B, C> {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Bias<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        if strategy == BlockStrategy::Reference {
            return reference::product::<Self>(x, w, bias, orders);
        }
        match bias {
            Bias::Absent => record::<B, C, 2>([x.node(), w.node()], x, w, Bias::Absent, orders, strategy),
            Bias::Added(bias) => {
                let nodes = [x.node(), w.node(), bias.node()];
                record::<B, C, 3>(nodes, x, w, Bias::Added(bias.into_primitive()), orders, strategy)
            }
        }
    }
}

/// Runs the product on the inner backend and records the step that undoes it; `nodes` are the operands', in order.
fn record<B: BlockDiagonalBackend, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    bias: Bias<B>,
    orders: Orders,
    strategy: BlockStrategy,
) -> FloatTensor<Autodiff<B, C>> {
    match Product.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let saved = Saved {
                x: w.is_tracked().then(|| prep.checkpoint(&x)),
                w: x.is_tracked().then(|| prep.checkpoint(&w)),
                blocks: w.shape()[0],
                orders,
                strategy,
            };
            let y = B::block_diagonal_product(x.into_primitive(), w.into_primitive(), bias, orders, strategy);
            prep.finish(saved, y)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::block_diagonal_product(x.into_primitive(), w.into_primitive(), bias, orders, strategy))
        }
    }
}

#[derive(Debug)]
struct Product;

#[derive(Clone, Debug)]
struct Saved {
    x: Option<NodeId>,
    w: Option<NodeId>,
    blocks: usize,
    orders: Orders,
    strategy: BlockStrategy,
}

impl<B: BlockDiagonalBackend, const N: usize> Backward<B, N> for Product {
    type State = Saved;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, w, blocks, orders, strategy } = ops.state;
        let mut parents = ops.parents.into_iter();
        let [x_node, w_node, bias_node] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, crate::bias::sum_tokens::<B>(dy.clone()));
        }
        if let (Some(node), Some(id)) = (x_node, w) {
            let w = B::float_swap_dims(checkpointer.retrieve_node_output(id), 1, 2);
            let dx = B::block_diagonal_product(dy.clone(), w, Bias::Absent, orders.transposed(), strategy);
            grads.register::<B>(node.id, dx);
        }
        if let (Some(node), Some(id)) = (w_node, x) {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, B::block_diagonal_gradient(x, dy, blocks, orders, strategy));
        }
    }
}
