//! The hand-written backward pass.
//!
//! The fold is linear, so its gradient is its transpose. A product with a sketch for each block of rows keeps `x` and
//! `z` alone, never a sketch.

use super::{Fold, Ss1Backend, Ss1Strategy};
use crate::bilinear::{Bilinear, record};
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;
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

    fn ss1_product(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        let (bias, rest) = epilogue.split_bias();
        rest.apply(record::<B, C>(Product { fold, strategy }, x, z, bias))
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

#[derive(Clone, Copy, Debug)]
struct Product {
    fold: Fold,
    strategy: Ss1Strategy,
}

impl<B: Ss1Backend> Bilinear<B> for Product {
    fn product(self, x: FloatTensor<B>, z: FloatTensor<B>, bias: OptionalTensor<B>) -> FloatTensor<B> {
        B::ss1_product(x, z, bias.into(), self.fold, self.strategy)
    }

    fn input_gradient(self, dy: FloatTensor<B>, z: FloatTensor<B>) -> FloatTensor<B> {
        B::ss1_input_gradient(dy, z, self.fold, self.strategy)
    }

    fn weight_gradient(self, x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
        B::ss1_weight_gradient(x, dy, self.fold, self.strategy)
    }
}
