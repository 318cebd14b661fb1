//! Initial factors whose product looks like a freshly initialised dense weight.
//!
//! Neither the BLAST paper nor its code says how to initialise a layer that is trained from scratch. The rule here: a
//! dense initializer names a distribution for the entries of `W`; the factors are drawn so that the entries of their
//! product have its variance. An entry is a sum of `r` products, so with independent zero-mean factors
//! `Var(W) = r · Var(u) · E[s²] · Var(v)`, which is split evenly over `u` and `v`, with `E[s²] = 1`.

use crate::StructureError;
use burn::nn::Initializer;

/// How to fill the factors.
#[derive(Debug, PartialEq)]
pub(crate) struct FactorInitializers {
    pub u: Initializer,
    /// The couplings, where the structure has them.
    pub s: Initializer,
    pub v: Initializer,
}

impl FactorInitializers {
    /// Factors of rank `rank` that imitate a dense `[d_output, d_input]` weight drawn from `dense`.
    pub fn imitating(
        dense: &Initializer,
        d_input: usize,
        d_output: usize,
        rank: usize,
    ) -> Result<Self, StructureError> {
        Ok(match Imitated::of(dense, d_input, d_output)? {
            // An exact product: every entry is r · 1 · (value / r) · 1.
            Imitated::Constant(value) => Self::constant(value, rank),
            // One zero factor is enough, and leaves it a gradient to grow by.
            Imitated::Zeros => Self { u: Initializer::Zeros, ..Self::with_variance(1.0 / d_input as f64, rank as f64) },
            Imitated::Variance(variance) => Self::with_variance(variance, rank as f64),
        })
    }

    /// Factors the product of `terms` of which has `variance`.
    pub fn with_variance(variance: f64, terms: f64) -> Self {
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let std = (variance / terms).powf(0.25);
        Self { u: normal(std), s: normal(1.0), v: normal(std) }
    }

    fn constant(value: f64, rank: usize) -> Self {
        Self { u: Initializer::Constant { value: value / rank as f64 }, s: Initializer::Ones, v: Initializer::Ones }
    }
}

/// What there is to imitate in a dense initializer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Imitated {
    /// Every entry is this, and not 0.
    Constant(f64),
    /// Every entry is 0.
    Zeros,
    /// Entries of mean 0 and this variance.
    Variance(f64),
}

impl Imitated {
    /// The entries of a dense `[d_output, d_input]` weight drawn from `dense`.
    pub fn of(dense: &Initializer, d_input: usize, d_output: usize) -> Result<Self, StructureError> {
        Ok(match dense {
            Initializer::Constant { value } if *value != 0.0 => Self::Constant(*value),
            Initializer::Ones => Self::Constant(1.0),
            Initializer::Zeros | Initializer::Constant { .. } => Self::Zeros,
            Initializer::Uniform { min, max } if (min + max).abs() <= 1e-12 * (max - min).abs() => {
                Self::Variance((max - min).powi(2) / 12.0)
            }
            Initializer::Normal { mean: 0.0, std } => Self::Variance(std.powi(2)),
            Initializer::Uniform { .. } | Initializer::Normal { .. } => {
                return Err(StructureError::InitializerWithMean { initializer: dense.clone() });
            }
            Initializer::KaimingUniform { gain, fan_out_only } | Initializer::KaimingNormal { gain, fan_out_only } => {
                let fan = if *fan_out_only { d_output } else { d_input };
                Self::Variance(gain.powi(2) / fan as f64)
            }
            Initializer::XavierUniform { gain } | Initializer::XavierNormal { gain } => {
                Self::Variance(2.0 * gain.powi(2) / (d_input + d_output) as f64)
            }
            // The longer side's unit vectors spread their norm over its entries.
            Initializer::Orthogonal { gain } => Self::Variance(gain.powi(2) / d_input.max(d_output) as f64),
        })
    }

    /// Entries of a matrix of which only a `1 / times` share is not zero, so that its products have the dense variance.
    pub fn sparse(self, times: f64) -> Initializer {
        match self {
            Self::Constant(value) => Initializer::Constant { value },
            Self::Zeros => Initializer::Zeros,
            Self::Variance(variance) => Initializer::Normal { mean: 0.0, std: (variance * times).sqrt() },
        }
    }
}

/// The initializer Burn's `Linear` uses: uniform in `±sqrt(1 / d_input)`.
pub(crate) fn dense_default() -> Initializer {
    Initializer::KaimingUniform { gain: 1.0 / 3.0f64.sqrt(), fan_out_only: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_cannot_be_imitated() {
        for dense in [Initializer::Normal { mean: 0.5, std: 1.0 }, Initializer::Uniform { min: 0.0, max: 1.0 }] {
            assert!(FactorInitializers::imitating(&dense, 4, 4, 2).is_err(), "{dense:?}");
        }
    }

    #[test]
    fn the_product_of_variances_is_the_dense_variance() {
        let dense = Initializer::Uniform { min: -0.3, max: 0.3 };
        let rank = 7;
        let factors = FactorInitializers::imitating(&dense, 10, 12, rank).unwrap();
        let (Initializer::Normal { std: u, .. }, Initializer::Normal { std: v, .. }) = (factors.u, factors.v) else {
            panic!("normal factors");
        };
        let variance = rank as f64 * u.powi(2) * v.powi(2);
        assert!((variance - 0.03).abs() < 1e-12, "{variance}");
    }
}
