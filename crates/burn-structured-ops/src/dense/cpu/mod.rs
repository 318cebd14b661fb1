//! Dense products on Flex, out of packed panels, or for a handful of tokens with a factor that is read once as it lies (`streamed.rs`).
//! Half precision is summed in f32, which Flex's own product of f16 is not.

mod gemv;

use super::DenseBackend;
use crate::Bias;
use crate::cpu::gemm::{Epilogue, Rows, alloc_uninit_with, gemm_tn, grouped_gemm};
use crate::cpu::{
    MIN_PANEL_TOKENS, Matrix, Scalar, ThreadTeam, contiguous, dense_slice, from_native, in_native, to_native,
    with_native, with_rows,
};
use burn::backend::Flex;
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

impl DenseBackend for Flex {
    fn dense_product(x: FloatTensor<Self>, w: FloatTensor<Self>, bias: Bias<Self>) -> FloatTensor<Self> {
        if x.layout().num_elements() == 0 || w.layout().num_elements() == 0 {
            return Self::linear(x, w, bias.into_option());
        }
        let dtype = x.dtype();
        let [x, w] = [x, w].map(to_native);
        let bias = bias.into_option().map(|bias| to_native(bias).to_contiguous());
        from_native(with_native!(x.dtype(), E => product::<E>(x, &w, bias.as_ref().map(dense_slice))), dtype)
    }

    fn dense_input_gradient(dy: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::dense_product(dy, Self::float_swap_dims(w, 0, 1), Bias::None)
    }

    fn dense_factor_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (tokens, native) = (x.layout().shape()[0], matches!(x.dtype(), DType::F32 | DType::F64));
        if tokens == 0 || native && tokens < MIN_PANEL_TOKENS {
            return Self::linear_weight_backward(x, dy);
        }
        in_native([x, dy], |[x, dy]| with_native!(x.dtype(), E => factor_gradient::<E>(&x, dy)))
    }
}

fn product<E: Scalar>(x: FlexTensor, w: &FlexTensor, bias: Option<&[E]>) -> FlexTensor {
    let ([tokens, n], m) = (x.layout().shape().dims(), w.layout().shape()[1]);
    let x = with_rows::<E>(x);
    if tokens < MIN_PANEL_TOKENS {
        return contiguous(gemv::product::<E>(Matrix::of(&x, 0), w, bias), Shape::new([tokens, m]));
    }
    let rows = Rows::of(Matrix::<E>::of(&x, 0)).expect("contiguous rows");
    // SAFETY: a product writes every element of its output.
    let y = unsafe {
        alloc_uninit_with(tokens * m, |y| {
            grouped_gemm(&ThreadTeam::default(), [1, tokens, n, m], |_| rows, |_| Matrix::of(w, 0), bias, y);
        })
    };
    contiguous(y, Shape::new([tokens, m]))
}

fn factor_gradient<E: Scalar>(x: &FlexTensor, dy: FlexTensor) -> FlexTensor {
    let ([tokens, n], m) = (x.layout().shape().dims(), dy.layout().shape()[1]);
    let (x, dy) = (Matrix::<E>::of(x, 0), Matrix::<E>::of(&dy, 0));
    // SAFETY: there are tokens, so every element is written.
    let gradient = unsafe {
        alloc_uninit_with(n * m, |out| {
            gemm_tn(&ThreadTeam::default(), [1, tokens, n, m], |_| x, |_| dy, out, Epilogue::Store)
        })
    };
    contiguous(gradient, Shape::new([n, m]))
}
