//! Bounds on rounding.

use burn::tensor::DType;
use std::cell::Cell;

thread_local! {
    /// Whether Burn's f32 matmul may round its operands to TF32 here.
    static TF32: Cell<bool> = const { Cell::new(false) };
}

/// Runs `check` with the bounds of a device whose f32 products may go through TF32 tensor cores: on CUDA, Burn takes these
/// wherever they are measured to be faster.
#[cfg(feature = "cube")]
pub fn with_tf32(check: impl FnOnce()) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            TF32.set(false);
        }
    }
    TF32.set(true);
    let _reset = Reset;
    check();
}

/// How far a value may be off: standard forward error analysis, no fitted constant.
///
/// A sum of `k` products of four factors, in any order, is off by at most `γ_(k+4) = (k+4)u / (1 - (k+4)u)` times the sum
/// of the absolute values of its terms, with `u` the unit roundoff of the type that sums are kept in. The half-precision
/// types sum in f32 but store `z`, `t` and the result (and `dt`, `dz` on the way back) rounded: at most six roundings.
pub struct Tolerance {
    sum: f64,
    store: f64,
    smallest: f64,
}

impl Tolerance {
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { sum: f64::EPSILON / 2.0, store: 0.0, smallest: f64::MIN_POSITIVE },
            DType::F32 => Self {
                sum: f32::EPSILON as f64 / 2.0,
                // The operands of each product are rounded as the half-precision types are stored.
                store: if TF32.get() { 2f64.powi(-11) } else { 0.0 },
                smallest: f32::MIN_POSITIVE as f64,
            },
            // The spacing of f16's subnormal numbers.
            DType::F16 => Self { sum: f32::EPSILON as f64 / 2.0, store: 2f64.powi(-11), smallest: 2f64.powi(-24) },
            DType::BF16 => {
                Self { sum: f32::EPSILON as f64 / 2.0, store: 2f64.powi(-8), smallest: f32::MIN_POSITIVE as f64 }
            }
            other => panic!("{other:?} is not a float"),
        }
    }

    /// The bound for a sum of `length` terms of total absolute value `magnitude`.
    pub fn bound(&self, length: usize, magnitude: f64) -> f64 {
        let gamma = |roundings: f64, unit: f64| roundings * unit / (1.0 - roundings * unit);
        let relative = gamma(length as f64 + 4.0, self.sum) + gamma(6.0, self.store);
        relative * magnitude + self.smallest * length as f64
    }
}

/// Asserts that every value is within its bound.
pub fn assert_close(what: &str, dtype: DType, length: usize, actual: &[f64], expected: &[f64], magnitude: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of elements");
    let tolerance = Tolerance::of(dtype);
    for (index, ((actual, expected), magnitude)) in actual.iter().zip(expected).zip(magnitude).enumerate() {
        let bound = tolerance.bound(length, *magnitude);
        // Written so that NaN fails.
        let close = (actual - expected).abs() <= bound;
        assert!(close, "{what}[{index}]: {actual} instead of {expected}, off by more than {bound:e}");
    }
}
