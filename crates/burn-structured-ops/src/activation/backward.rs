//! The hand-written backward pass, from the input of the activation.

use super::{Activation, ActivationBackend};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::retro_forward::RetroForward;
use burn_autodiff::checkpoint::state::BackwardStates;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use std::marker::PhantomData;

impl<B: ActivationBackend, C: CheckpointStrategy> ActivationBackend for Autodiff<B, C> {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let again = Again { x: x.id(), activation, backend: PhantomData::<B> };
        let prep = Activated.prepare::<C>([x.node()]).memory_bound().retro_forward(again).parents([&x]).stateful();
        match prep {
            OpsKind::Tracked(mut prep) => {
                let saved = (prep.checkpoint(&x), activation);
                prep.finish(saved, B::activate(x.into_primitive(), activation))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::activate(x.into_primitive(), activation)),
        }
    }
}

#[derive(Debug)]
struct Activated;

impl<B: ActivationBackend> Backward<B, 1> for Activated {
    type State = (NodeId, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, activation) = ops.state;
        let dy = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
            grads.register::<B>(node.id, B::activation_gradient(x, dy, activation));
        }
    }
}

/// Computes the output again, for strategies that keep none.
#[derive(Debug)]
struct Again<B> {
    x: NodeId,
    activation: Activation,
    backend: PhantomData<B>,
}

impl<B: Backend + ActivationBackend> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, output: NodeId) {
        let x: FloatTensor<B> = states.get_state(&self.x);
        states.save(output, B::activate(x, self.activation));
    }
}
