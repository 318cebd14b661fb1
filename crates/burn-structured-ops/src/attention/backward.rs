//! The hand-written backward pass.
//!
//! Kept are the operands, the output and one number for each query, its log-sum-exp; the probabilities are recomputed. Operands are
//! retrieved through Burn's checkpointer, so a strategy that recomputes activations does so here as well.

use super::reference::parts;
use super::{AttentionBackend, KeyPadding};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

impl<B: AttentionBackend, C: CheckpointStrategy> AttentionBackend for Autodiff<B, C> {
    fn attention_forward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        padding: KeyPadding<Self>,
        causal: bool,
    ) -> FloatTensor<Self> {
        let padding = inner(padding);
        match Attention.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let operands = [&query, &key, &value].map(|operand| prep.checkpoint(operand));
                let [query, key, value] = [query, key, value].map(|operand| operand.into_primitive());
                let (output, log_sum_exp) = B::attention_forward_saving(query, key, value, padding.clone(), causal);
                prep.finish(Saved { operands, padding, causal, output: output.clone(), log_sum_exp }, output)
            }
            OpsKind::UnTracked(prep) => {
                let [query, key, value] = [query, key, value].map(|operand| operand.into_primitive());
                prep.finish(B::attention_forward(query, key, value, padding, causal))
            }
        }
    }

    fn self_attention(qkv: FloatTensor<Self>, padding: KeyPadding<Self>, causal: bool) -> FloatTensor<Self> {
        let padding = inner(padding);
        match SelfAttention.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let operands = [prep.checkpoint(&qkv)];
                let [query, key, value] = parts::<B>(qkv.into_primitive());
                let (output, log_sum_exp) = B::attention_forward_saving(query, key, value, padding.clone(), causal);
                prep.finish(Saved { operands, padding, causal, output: output.clone(), log_sum_exp }, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::self_attention(qkv.into_primitive(), padding, causal)),
        }
    }
}

/// A padding as the inner backend sees it: the same, as nothing tracks it.
fn inner<B: Backend, C: CheckpointStrategy>(padding: KeyPadding<Autodiff<B, C>>) -> KeyPadding<B> {
    match padding {
        KeyPadding::None => KeyPadding::None,
        KeyPadding::Some(padding) => KeyPadding::Some(padding),
    }
}

#[derive(Debug)]
struct Attention;

#[derive(Debug)]
struct SelfAttention;

/// What the backward pass finds again.
#[derive(Clone, Debug)]
struct Saved<B: Backend, const N: usize> {
    /// Query, key and value, or the one tensor that they are parts of.
    operands: [NodeId; N],
    padding: KeyPadding<B>,
    causal: bool,
    output: FloatTensor<B>,
    log_sum_exp: FloatTensor<B>,
}

impl<B: AttentionBackend> Backward<B, 3> for Attention {
    type State = Saved<B, 3>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let output_grad = grads.consume::<B>(&ops.node);
        let Saved { operands, padding, causal, output, log_sum_exp } = ops.state;
        let [query, key, value] = operands.map(|node| checkpointer.retrieve_node_output(node));
        let (query_grad, key_grad, value_grad) =
            B::attention_gradients(query, key, value, padding, causal, output, log_sum_exp, output_grad);
        for (node, gradient) in ops.parents.into_iter().zip([query_grad, key_grad, value_grad]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: AttentionBackend> Backward<B, 1> for SelfAttention {
    type State = Saved<B, 1>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let output_grad = grads.consume::<B>(&ops.node);
        let Saved { operands: [qkv], padding, causal, output, log_sum_exp } = ops.state;
        let qkv = checkpointer.retrieve_node_output(qkv);
        if let [Some(node)] = ops.parents {
            let gradient = B::self_attention_gradient(qkv, padding, causal, output, log_sum_exp, output_grad);
            grads.register::<B>(node.id, gradient);
        }
    }
}
