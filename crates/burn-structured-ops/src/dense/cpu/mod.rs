//! Dense products on Flex: out of packed panels, or for up to 5 tokens with a factor that is read once (`gemv.rs`).
//!
//! Half precision is summed in f32, which Flex's own product of f16 is not.

mod gemv;

use super::DenseBackend;
use crate::cpu::gemm::{Finish, Rows, grouped_product, product_over_tokens};
use crate::cpu::{
    MIN_GEMM_TOKENS, Matrix, Scalar, contiguous, from_native, in_native, on_pool, to_native, with_native, with_rows,
};
use crate::{EpilogueTensors, OptionalTensor};
use burn::backend::Flex;
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

impl DenseBackend for Flex {
    fn dense_product(x: FloatTensor<Self>, w: FloatTensor<Self>, epilogue: EpilogueTensors<Self>) -> FloatTensor<Self> {
        let (dtype, tokens) = (x.dtype(), x.layout().shape()[0]);
        epilogue.check([tokens, w.layout().shape()[1]], dtype);
        if x.layout().num_elements() == 0 || w.layout().num_elements() == 0 {
            let (bias, rest) = epilogue.split_bias();
            return rest.apply(Self::linear(x, w, bias.into_option()));
        }
        let [x, w] = [x, w].map(to_native);
        let epilogue = epilogue.into_native();
        let product = || with_native!(x.dtype(), E => product::<E>(x, &w, epilogue.finish()));
        from_native(on_pool(tokens, product), dtype)
    }

    fn dense_input_gradient(dy: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::dense_product(dy, Self::float_swap_dims(w, 0, 1), OptionalTensor::None.into())
    }

    fn dense_factor_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (tokens, native) = (x.layout().shape()[0], matches!(x.dtype(), DType::F32 | DType::F64));
        if tokens == 0 || native && tokens < MIN_GEMM_TOKENS {
            return Self::linear_weight_backward(x, dy);
        }
        in_native([x, dy], |[x, dy]| with_native!(x.dtype(), E => factor_gradient::<E>(&x, &dy)))
    }
}

fn product<E: Scalar>(x: FlexTensor, w: &FlexTensor, finish: Finish<'_, E>) -> FlexTensor {
    let ([tokens, n], m) = (x.layout().shape().dims(), w.layout().shape()[1]);
    let x = with_rows::<E>(x);
    let x = Matrix::of(&x, 0);
    let y = if tokens < MIN_GEMM_TOKENS {
        gemv::product::<E>(x, w, finish)
    } else {
        let rows = Rows::of(x).expect("contiguous rows");
        grouped_product([1, tokens, n, m], |_| rows, |_| Matrix::of(w, 0), finish)
    };
    contiguous(y, Shape::new([tokens, m]))
}

fn factor_gradient<E: Scalar>(x: &FlexTensor, dy: &FlexTensor) -> FlexTensor {
    let ([tokens, n], m) = (x.layout().shape().dims(), dy.layout().shape()[1]);
    let (x, dy) = (Matrix::<E>::of(x, 0), Matrix::<E>::of(dy, 0));
    contiguous(product_over_tokens([1, tokens, n, m], |_| x, |_| dy), Shape::new([n, m]))
}
