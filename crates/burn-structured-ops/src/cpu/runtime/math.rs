//! Activations and their derivatives, element by element and without branches, so that the compiler makes vectors of them.
//!
//! f32 has functions of its own: `exp` by Cody and Waite's reduction (*Software Manual for the Elementary Functions*, 1980) and a
//! polynomial, the normal distribution from `erfc(a) = exp(-a²) q(1 / (1 + p a))` with `q` a polynomial (the form of Abramowitz and
//! Stegun, *Handbook of Mathematical Functions*, 7.1.26, of higher degree). f64 takes the standard library's and libm's.

use crate::activation::Activation;
use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, LOG2_E, SQRT_2};

/// `tanh`-GELU is `x σ(u)` with `u = 2 √(2/π) (x + 0.044715 x³)`.
const TANH_SCALE: f64 = FRAC_2_SQRT_PI * SQRT_2;
const TANH_CUBE: f64 = 0.044715 * TANH_SCALE;
/// Where `σ(u)` is 0 or 1 to the last bit.
const TANH_SATURATED: f64 = 16.0;

/// The functions that activations are made of.
pub(crate) trait Math: Copy {
    /// `f(x)`.
    fn activate<const ACTIVATION: usize>(self) -> Self;

    /// `f'(x)`.
    fn derivative<const ACTIVATION: usize>(self) -> Self;
}

/// Runs `$body` with `$A` bound to the number of the activation, a constant.
macro_rules! with_activation {
    ($activation:expr, $A:ident => $body:expr) => {
        match $activation {
            Activation::Relu => {
                const $A: usize = Activation::Relu as usize;
                $body
            }
            Activation::Gelu => {
                const $A: usize = Activation::Gelu as usize;
                $body
            }
            Activation::GeluTanh => {
                const $A: usize = Activation::GeluTanh as usize;
                $body
            }
            Activation::Silu => {
                const $A: usize = Activation::Silu as usize;
                $body
            }
        }
    };
}

/// `f` of every element, in place. To be called from code that is compiled for the processor at hand.
#[inline(always)]
pub(crate) fn activate<E: Math>(values: &mut [E], activation: Activation) {
    with_activation!(activation, A => {
        // A loop: closures may be compiled for the least processor of the architecture.
        for value in values {
            *value = value.activate::<A>();
        }
    });
}

/// `dy ∘ f'(x)`, in place of `dy`. To be called from code that is compiled for the processor at hand.
#[inline(always)]
pub(crate) fn activation_gradient<E: Math + std::ops::Mul<Output = E>>(x: &[E], dy: &mut [E], activation: Activation) {
    with_activation!(activation, A => {
        for (dy, x) in dy.iter_mut().zip(x) {
            *dy = *dy * x.derivative::<A>();
        }
    });
}

macro_rules! impl_math {
    ($E:ty) => {
        impl Math for $E {
            #[inline(always)]
            fn activate<const ACTIVATION: usize>(self) -> Self {
                const RELU: usize = Activation::Relu as usize;
                const GELU: usize = Activation::Gelu as usize;
                const GELU_TANH: usize = Activation::GeluTanh as usize;
                match ACTIVATION {
                    // A comparison, not `max`, which would turn NaN into 0.
                    RELU => {
                        if self < 0.0 {
                            0.0
                        } else {
                            self
                        }
                    }
                    GELU => self * self.normal().0,
                    GELU_TANH => self * self.tanh_argument().sigmoid(),
                    _ => self * self.sigmoid(),
                }
            }

            #[inline(always)]
            fn derivative<const ACTIVATION: usize>(self) -> Self {
                const RELU: usize = Activation::Relu as usize;
                const GELU: usize = Activation::Gelu as usize;
                const GELU_TANH: usize = Activation::GeluTanh as usize;

                /// The derivative of `x σ(u)`, from `σ`, `1 - σ` (a difference would lose its digits) and `x u'`.
                #[inline(always)]
                fn gated([sigmoid, rest]: [$E; 2], slope: $E) -> $E {
                    sigmoid * rest.mul_add(slope, 1.0)
                }

                match ACTIVATION {
                    RELU => {
                        if self > 0.0 {
                            1.0
                        } else {
                            0.0
                        }
                    }
                    GELU => {
                        let (distribution, density) = self.normal();
                        self.mul_add(density, distribution)
                    }
                    GELU_TANH => {
                        let x = self.clamp(-TANH_SATURATED as $E, TANH_SATURATED as $E);
                        let slope = (x * x).mul_add(3.0 * TANH_CUBE as $E, TANH_SCALE as $E);
                        gated(x.tanh_argument().sigmoids(), x * slope)
                    }
                    _ => gated(self.sigmoids(), self),
                }
            }
        }

        impl Distribution for $E {
            #[inline(always)]
            fn sigmoid(self) -> Self {
                let e = (-self.abs()).exp_of_negative();
                let numerator = if self < 0.0 { e } else { 1.0 };
                numerator / (1.0 + e)
            }

            #[inline(always)]
            fn sigmoids(self) -> [Self; 2] {
                let e = (-self.abs()).exp_of_negative();
                let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
                if self < 0.0 { [small, large] } else { [large, small] }
            }

            #[inline(always)]
            fn normal(self) -> (Self, Self) {
                const INVERSE_ROOT: $E = (0.5 * FRAC_2_SQRT_PI / SQRT_2) as $E;
                let e = (-0.5 * self * self).exp_of_negative();
                let tail = self.abs().tail(e);
                (if self > 0.0 { 1.0 - tail } else { tail }, INVERSE_ROOT * e)
            }

            #[inline(always)]
            fn tanh_argument(self) -> Self {
                (self * self).mul_add(TANH_CUBE as $E, TANH_SCALE as $E) * self
            }
        }
    };
}

impl_math!(f32);
impl_math!(f64);

/// What the activations and their derivatives share.
trait Distribution: Sized {
    /// `u = 2 √(2/π) (x + 0.044715 x³)`.
    fn tanh_argument(self) -> Self;

    /// `σ(x) = 1 / (1 + exp(-x))`.
    fn sigmoid(self) -> Self;

    /// `σ(x)` and `1 - σ(x)`.
    fn sigmoids(self) -> [Self; 2];

    /// `Φ(x)` and `φ(x)` of the standard normal distribution.
    fn normal(self) -> (Self, Self);
}

trait Exponential {
    /// `exp(x)` for `x ≤ 0`.
    fn exp_of_negative(self) -> Self;

    /// `Φ(-x)` for `x ≥ 0`, from `e = exp(-x² / 2)`.
    fn tail(self, e: Self) -> Self;
}

impl Exponential for f32 {
    /// Within 1 ulp; below `exp(-87)`, where results would be subnormal, 0.
    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        /// `1.5 · 2²³`: adding it rounds to a whole number, which is then in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        const LOWEST: f32 = -87.0;
        /// `ln 2` in two parts, the first with few enough bits for exact products.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = (LN_2 - LN_2_HIGH as f64) as f32;
        let x = if self < LOWEST { LOWEST } else { self };
        let rounded = x.mul_add(LOG2_E as f32, ROUND);
        let n = rounded - ROUND;
        let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
        // The Taylor polynomial of degree 7: |r| ≤ ln 2 / 2, so what is left is below 6e-9.
        let mut p = 1.0f32 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p.mul_add(r, coefficient);
        }
        let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
        if self < LOWEST { 0.0 } else { p * power }
    }

    /// The polynomial is the best in relative error, which is 3.3e-8.
    #[inline(always)]
    fn tail(self, e: Self) -> Self {
        /// `p / √2`, as `erfc` is taken at `x / √2`.
        const P: f32 = (0.45 / SQRT_2) as f32;
        /// Halves of the coefficients of `q`, from the highest power on.
        #[allow(clippy::excessive_precision, reason = "as they were fitted, in f64")]
        const Q: [f32; 10] = [
            -0.5 * 0.041_391_150_385,
            0.5 * 0.190_688_070_347,
            -0.5 * 0.300_582_808_681,
            0.5 * 0.142_401_299_222,
            -0.5 * 0.022_358_143_212,
            0.5 * 0.119_950_509_259,
            0.5 * 0.175_252_109_840,
            0.5 * 0.228_271_644_139,
            0.5 * 0.253_883_162_684,
            0.5 * 0.253_885_320_753,
        ];
        let t = 1.0 / self.mul_add(P, 1.0);
        let mut q = Q[0];
        for coefficient in &Q[1..] {
            q = q.mul_add(t, *coefficient);
        }
        q * t * e
    }
}

impl Exponential for f64 {
    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn tail(self, _: Self) -> Self {
        0.5 * libm::erfc(self / SQRT_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vectorized;

    /// `f` or `f'` of all `x` as vectors, in f32.
    fn found(xs: &[f32], activation: Activation, derivative: bool) -> Vec<f32> {
        let mut values = if derivative { vec![1.0; xs.len()] } else { xs.to_vec() };
        vectorized(
            #[inline(always)]
            || match derivative {
                true => activation_gradient(xs, &mut values, activation),
                false => activate(&mut values, activation),
            },
        );
        values
    }

    /// The same in f64, by other formulas.
    fn expected(x: f64, activation: Activation, derivative: bool) -> f64 {
        let (sigmoid, u) = (|x: f64| 1.0 / (1.0 + (-x).exp()), TANH_SCALE * x + TANH_CUBE * x.powi(3));
        let slope = TANH_SCALE + 3.0 * TANH_CUBE * x * x;
        let tanh = (0.5 * u).tanh();
        match (activation, derivative) {
            (Activation::Relu, false) => x.max(0.0),
            (Activation::Relu, true) => f64::from(u8::from(x > 0.0)),
            (Activation::Gelu, false) => 0.5 * x * libm::erfc(-x / SQRT_2),
            (Activation::Gelu, true) => {
                0.5 * libm::erfc(-x / SQRT_2) + x * (-0.5 * x * x).exp() * 0.5 * FRAC_2_SQRT_PI / SQRT_2
            }
            (Activation::GeluTanh, false) => 0.5 * x * (1.0 + tanh),
            (Activation::GeluTanh, true) => 0.5 * (1.0 + tanh) + 0.25 * x * (1.0 - tanh * tanh) * slope,
            (Activation::Silu, false) => x * sigmoid(x),
            (Activation::Silu, true) => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
        }
    }

    #[test]
    fn activations_are_exact_to_a_few_roundings() {
        let step = if cfg!(miri) { 3000 } else { 1 };
        let xs: Vec<f32> = (-120_000..=120_000).step_by(step).map(|i| i as f32 * 1e-4).chain([1e-30, -1e-30]).collect();
        for activation in Activation::ALL {
            for derivative in [false, true] {
                let mut worst = (0.0, 0.0);
                for (x, found) in xs.iter().zip(found(&xs, activation, derivative)) {
                    let expected = expected(f64::from(*x), activation, derivative);
                    // The size of what is added up: derivatives pass through zero.
                    let scale = if derivative { 1.0 } else { f64::from(x.abs()).max(f64::MIN_POSITIVE) };
                    let error = (f64::from(found) - expected).abs() / scale / f64::from(f32::EPSILON);
                    worst = if error > worst.0 { (error, f64::from(*x)) } else { worst };
                }
                assert!(worst.0 < 2.0, "{activation:?}, derivative {derivative}: {} ε at {}", worst.0, worst.1);
            }
        }
    }

    #[test]
    fn activations_of_extreme_numbers() {
        let xs = [-1e30, -200.0, -0.0, 0.0, 200.0, 1e30, f32::NAN];
        for activation in Activation::ALL {
            let values = found(&xs, activation, false);
            assert_eq!(values[..6], [0.0, 0.0, 0.0, 0.0, 200.0, 1e30], "{activation:?}");
            let slopes = found(&xs, activation, true);
            let zero = if activation == Activation::Relu { 0.0 } else { 0.5 };
            assert_eq!(slopes[..6], [0.0, 0.0, zero, zero, 1.0, 1.0], "{activation:?}");
            assert!(values[6].is_nan(), "{activation:?}");
            assert!(slopes[6].is_nan() || activation == Activation::Relu, "{activation:?}");
        }
    }

    #[test]
    fn exp_of_negative_is_within_two_ulp() {
        let step = if cfg!(miri) { 3000 } else { 1 };
        for x in (0..87_000).step_by(step).map(|i| i as f32 * -1e-3) {
            let (found, expected) = (f64::from(x.exp_of_negative()), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON), "exp({x}) = {found}");
        }
        assert_eq!([-87.5f32, -1e30, f32::NEG_INFINITY].map(Exponential::exp_of_negative), [0.0; 3]);
    }
}
