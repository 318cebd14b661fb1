//! The hand-written backward pass: of a product that is linear in either operand.

use super::DenseBackend;
use crate::bilinear::{Bilinear, record};
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::Autodiff;
use burn::backend::tensor::FloatTensor;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

impl<B: DenseBackend, C: CheckpointStrategy> DenseBackend for Autodiff<B, C> {
    fn dense_product(x: FloatTensor<Self>, w: FloatTensor<Self>, epilogue: EpilogueTensors<Self>) -> FloatTensor<Self> {
        let (bias, rest) = epilogue.split_bias();
        rest.apply(record::<B, C>(Product, x, w, bias))
    }
}

#[derive(Clone, Copy, Debug)]
struct Product;

impl<B: DenseBackend> Bilinear<B> for Product {
    fn product(self, x: FloatTensor<B>, w: FloatTensor<B>, bias: OptionalTensor<B>) -> FloatTensor<B> {
        B::dense_product(x, w, bias.into())
    }

    fn input_gradient(self, dy: FloatTensor<B>, w: FloatTensor<B>) -> FloatTensor<B> {
        B::dense_input_gradient(dy, w)
    }

    fn weight_gradient(self, x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
        B::dense_factor_gradient(x, dy)
    }
}
