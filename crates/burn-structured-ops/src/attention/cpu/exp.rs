//! The exponential function of a register, and the few operations of a softmax that products do not need.

use crate::cpu::Scalar;
use pulp::Simd;

/// An element type with an exponential function.
pub(super) trait Exponential: Scalar + PartialEq {
    /// The smallest finite number.
    const MIN: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;

    /// `a · b` in every lane.
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// The larger of both in every lane; of `b` if `a` is NaN, unless NaN of either is kept.
    fn larger<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// The largest lane.
    fn largest<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;

    /// `then` where `a < b`, `otherwise` elsewhere, also where one of them is NaN.
    fn select_less<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        then: Self::Vector<S>,
        otherwise: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// `e^x` in every lane, to 2 units in the last place; 0 below the logarithm of the smallest normal number, NaN of NaN. `x` must not
    /// exceed 88 (709 for f64).
    ///
    /// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, where `ln 2` has two parts, the first of which has so few digits that its product with
    /// `n` is exact (Cody and Waite). `e^r = 1 + r + r² q(r)`, and `2^n` is put together from its bits.
    fn exp<S: Simd>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;

    /// The natural logarithm.
    fn log(self) -> Self;

    fn reciprocal(self) -> Self;
}

/// `e^x` of one element, as [`Exponential::exp`] of a lane.
#[inline(always)]
pub(super) fn exp_of<S: Simd, E: Exponential>(simd: S, x: E) -> E {
    let lanes = E::exp(simd, E::splat(simd, x));
    bytemuck::cast_slice::<u8, E>(bytemuck::bytes_of(&lanes))[0]
}

/// `q` for f32: the polynomial of degree 4 with the least relative error of `1 + r + r² q(r)`, 1.6e-9, by Lawson's algorithm.
const Q32: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_7];
/// `q` for f64: Taylor's series, whose remainder is below 5e-18.
const Q64: [f64; 12] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

macro_rules! impl_exponential {
    ($E:ty, $mul:ident, $max:ident, $reduce_max:ident, $less:ident, $select:ident, $q:ident,
     $log2_e:expr, $high:expr, $low:expr, $round:expr, $smallest:expr, $power:ident) => {
        impl Exponential for $E {
            const MIN: Self = <$E>::MIN;
            const INFINITY: Self = <$E>::INFINITY;
            const NEG_INFINITY: Self = <$E>::NEG_INFINITY;

            #[inline(always)]
            fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn larger<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$max(a, b)
            }

            #[inline(always)]
            fn largest<S: Simd>(simd: S, a: Self::Vector<S>) -> Self {
                simd.$reduce_max(a)
            }

            #[inline(always)]
            fn select_less<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                then: Self::Vector<S>,
                otherwise: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$select(simd.$less(a, b), then, otherwise)
            }

            #[inline(always)]
            fn exp<S: Simd>(simd: S, x: Self::Vector<S>) -> Self::Vector<S> {
                let splat = |value| Self::splat(simd, value);
                // Adding it leaves the integer next to `x / ln 2` in the last bits.
                let shifted = Self::fused(simd, x, splat($log2_e), splat($round));
                let n = Self::plus(simd, shifted, splat(-$round));
                let r = Self::fused(simd, n, splat(-$high), x);
                let r = Self::fused(simd, n, splat(-$low), r);
                let mut q = splat($q[$q.len() - 1]);
                for coefficient in $q[..$q.len() - 1].iter().rev() {
                    q = Self::fused(simd, q, r, splat(*coefficient));
                }
                let exp = Self::plus(simd, Self::fused(simd, q, Self::times(simd, r, r), r), splat(1.0));
                let exp = Self::times(simd, exp, $power(simd, shifted));
                Self::select_less(simd, x, splat($smallest), splat(0.0), exp)
            }

            fn log(self) -> Self {
                self.ln()
            }

            fn reciprocal(self) -> Self {
                self.recip()
            }
        }
    };
}

// 1.5 · 2^23 or 2^52, plus the bias of the exponent.
impl_exponential!(
    f32,
    mul_f32s,
    max_f32s,
    reduce_max_f32s,
    less_than_f32s,
    select_f32s,
    Q32,
    std::f32::consts::LOG2_E,
    355.0 / 512.0,
    -2.121_944_4e-4,
    12_582_912.0 + 127.0,
    -87.336_55,
    power_f32
);
impl_exponential!(
    f64,
    mul_f64s,
    max_f64s,
    reduce_max_f64s,
    less_than_f64s,
    select_f64s,
    Q64,
    std::f64::consts::LOG2_E,
    6.931_457_519_531_25e-1,
    1.428_606_820_309_417_2e-6,
    6_755_399_441_055_744.0 + 1023.0,
    -708.396_418_532_264_1,
    power_f64
);

/// `2^n` from `n + 127` in the last bits.
#[inline(always)]
fn power_f32<S: Simd>(simd: S, shifted: S::f32s) -> S::f32s {
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(bits)
}

/// `2^n` from `n + 1023` in the last bits.
#[inline(always)]
fn power_f64<S: Simd>(_: S, mut shifted: S::f64s) -> S::f64s {
    let lanes: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut shifted));
    lanes.iter_mut().for_each(|lane| *lane <<= 52);
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::runtime::on_every_instruction_set;
    use crate::cpu::{load, store};

    #[derive(Clone, Copy)]
    struct Exp<'a, E>(&'a [E]);

    impl<E: Exponential> pulp::WithSimd for Exp<'_, E> {
        type Output = Vec<E>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
            let mut out = self.0.to_vec();
            for values in out.chunks_exact_mut(E::lanes::<S>()) {
                let exp = E::exp(simd, load::<S, E>(values));
                store::<S, E>(values, exp);
            }
            out
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "what it compares with, the standard library's exp, is inexact there on purpose")]
    fn exp_is_within_two_units_in_the_last_place() {
        let count = if cfg!(miri) { 64 } else { 1 << 16 };
        let values: Vec<f32> = (0..count).map(|at| -87.3 + 175.0 * at as f32 / count as f32).collect();
        for out in on_every_instruction_set(Exp(&values)) {
            for (x, found) in values.iter().zip(out) {
                let exact = f64::from(*x).exp();
                let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                assert!((f64::from(found) - exact).abs() <= 2.0 * unit, "exp({x}) = {exact}, got {found}");
            }
        }
        let values: Vec<f64> = (0..count).map(|at| -708.0 + 1416.0 * at as f64 / count as f64).collect();
        for out in on_every_instruction_set(Exp(&values)) {
            for (x, found) in values.iter().zip(out) {
                // The standard library's is within one unit.
                let unit = x.exp().next_up() - x.exp();
                assert!((found - x.exp()).abs() <= 2.0 * unit, "exp({x}) = {}, got {found}", x.exp());
            }
        }
    }

    #[test]
    fn exp_of_special_values() {
        let values = [0.0, -0.0, -1e4, -87.4, f32::MIN, f32::NEG_INFINITY, f32::NAN, -1e-30].repeat(8);
        for out in on_every_instruction_set(Exp(&values)) {
            assert_eq!(out[..6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
            assert!(out[6].is_nan() && out[7] == 1.0);
        }
        let values = [0.0, -1e5, f64::MIN, f64::NEG_INFINITY, f64::NAN, -709.0, 0.0, 0.0].repeat(4);
        for out in on_every_instruction_set(Exp(&values)) {
            assert_eq!(out[..4], [1.0, 0.0, 0.0, 0.0]);
            assert!(out[4].is_nan() && out[5] == 0.0);
        }
    }
}
