//! Activations in plain Burn operations: the fallback of every backend and the reference of the tests.

use super::Activation;
use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Scalar;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

/// `2 √(2/π)`: `tanh`-GELU is `x σ(u)` with `u = 2 √(2/π) (x + 0.044715 x³)`.
const SCALE: f64 = FRAC_2_SQRT_PI * SQRT_2;
const CUBE: f64 = 0.044715;
/// Where `σ(u)` has reached 0 or 1 in every dtype, and its derivative 0.
const SATURATED: f64 = 16.0;

/// `f(x)`.
pub(super) fn activate<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::Relu => B::relu(x),
        Activation::Gelu => B::gelu(x),
        Activation::GeluTanh => B::float_mul(x.clone(), B::sigmoid(inner::<B>(x))),
        Activation::Silu => B::float_mul(x.clone(), B::sigmoid(x)),
    }
}

/// `dy ∘ f'(x)`.
pub(super) fn gradient<B: Backend>(x: FloatTensor<B>, dy: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::Relu => B::relu_backward(B::relu(x), dy),
        // Not Burn's `gelu_backward`, which is off by 3e-5.
        Activation::Gelu => B::float_mul(dy, gelu_slope::<B>(x)),
        Activation::GeluTanh => {
            let x = B::float_clamp(x, number(-SATURATED), number(SATURATED));
            let square = B::float_mul(x.clone(), x.clone());
            let slope = affine::<B>(square, 3.0 * CUBE * SCALE, SCALE);
            let sigmoid = B::sigmoid(inner::<B>(x.clone()));
            B::float_mul(dy, gated_slope::<B>(sigmoid, B::float_mul(x, slope)))
        }
        Activation::Silu => {
            let sigmoid = B::sigmoid(x.clone());
            B::float_mul(dy, gated_slope::<B>(sigmoid, x))
        }
    }
}

/// `Φ(x) + x φ(x)`.
fn gelu_slope<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x.clone(), number(FRAC_1_SQRT_2));
    let distribution = affine::<B>(B::float_erf(scaled), 0.5, 0.5);
    let exponent = B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), number(-0.5));
    let density = B::float_mul_scalar(B::float_exp(exponent), number(0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2));
    B::float_add(distribution, B::float_mul(x, density))
}

/// `u = 2 √(2/π) (x + 0.044715 x³)`.
fn inner<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(x.clone(), x.clone());
    B::float_mul(affine::<B>(square, CUBE * SCALE, SCALE), x)
}

/// `σ (1 + (1 - σ) x u')`: the derivative of `x σ(u)`, from `σ` and `x u'`.
fn gated_slope<B: Backend>(sigmoid: FloatTensor<B>, slope: FloatTensor<B>) -> FloatTensor<B> {
    let rest = affine::<B>(sigmoid.clone(), -1.0, 1.0);
    B::float_mul(sigmoid, affine::<B>(B::float_mul(rest, slope), 1.0, 1.0))
}

/// `scale · x + shift`.
fn affine<B: Backend>(x: FloatTensor<B>, scale: f64, shift: f64) -> FloatTensor<B> {
    let scaled = if scale == 1.0 { x } else { B::float_mul_scalar(x, number(scale)) };
    B::float_add_scalar(scaled, number(shift))
}

fn number(value: f64) -> Scalar {
    value.into()
}
