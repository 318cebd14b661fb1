//! The backward pass of a product of tokens and weights.
//!
//! Such a product is linear in either operand, so each gradient is one more product, with the other operand, which alone is kept for
//! it.

use crate::OptionalTensor;
use crate::optional_tensor::sum_tokens;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use std::fmt::Debug;
use std::marker::PhantomData;

/// A product `y = x · w + bias` of `x [tokens, n]` and weights of any structure, with what it knows besides.
pub(crate) trait Bilinear<B: Backend>: Copy + Debug + Send + 'static {
    /// `y [tokens, m]`.
    fn product(self, x: FloatTensor<B>, w: FloatTensor<B>, bias: OptionalTensor<B>) -> FloatTensor<B>;

    /// The gradient of `x`.
    fn input_gradient(self, dy: FloatTensor<B>, w: FloatTensor<B>) -> FloatTensor<B>;

    /// The gradient of `w`.
    fn weight_gradient(self, x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B>;
}

/// Runs the product on the inner backend and records the step that undoes it.
pub(crate) fn record<B: Backend, C: CheckpointStrategy>(
    product: impl Bilinear<B>,
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    bias: OptionalTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    match bias {
        OptionalTensor::None => record_nodes::<B, C, _, 2>(product, [x.node(), w.node()], x, w, OptionalTensor::None),
        OptionalTensor::Some(bias) => {
            let nodes = [x.node(), w.node(), bias.node()];
            record_nodes::<B, C, _, 3>(product, nodes, x, w, OptionalTensor::Some(bias.into_primitive()))
        }
    }
}

/// The same with the operands' nodes, in order.
fn record_nodes<B: Backend, C: CheckpointStrategy, P: Bilinear<B>, const N: usize>(
    product: P,
    nodes: [NodeGuard; N],
    x: FloatTensor<Autodiff<B, C>>,
    w: FloatTensor<Autodiff<B, C>>,
    bias: OptionalTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Recorded(PhantomData::<P>).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let saved = Saved {
                x: w.is_tracked().then(|| prep.checkpoint(&x)),
                w: x.is_tracked().then(|| prep.checkpoint(&w)),
                product,
            };
            prep.finish(saved, product.product(x.into_primitive(), w.into_primitive(), bias))
        }
        OpsKind::UnTracked(prep) => prep.finish(product.product(x.into_primitive(), w.into_primitive(), bias)),
    }
}

#[derive(Debug)]
struct Recorded<P>(PhantomData<P>);

#[derive(Clone, Debug)]
struct Saved<P> {
    x: Option<NodeId>,
    w: Option<NodeId>,
    product: P,
}

impl<B: Backend, P: Bilinear<B>, const N: usize> Backward<B, N> for Recorded<P> {
    type State = Saved<P>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, w, product } = ops.state;
        let mut parents = ops.parents.into_iter();
        let [x_node, w_node, bias_node] = [(); 3].map(|()| parents.next().flatten());
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, sum_tokens::<B>(dy.clone()));
        }
        if let (Some(node), Some(id)) = (x_node, w) {
            let w: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, product.input_gradient(dy.clone(), w));
        }
        if let (Some(node), Some(id)) = (w_node, x) {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(id);
            grads.register::<B>(node.id, product.weight_gradient(x, dy));
        }
    }
}
