//! Initial factors whose product looks like a freshly initialised dense weight.
//!
//! Neither the BLAST paper nor its code says how to initialise a layer that is trained from scratch. The rule here: a
//! dense initializer names a distribution for the entries of `W`; the factors are drawn so that the entries of their
//! product have its variance. An entry is a sum of `r` products, so with independent zero-mean factors
//! `Var(W) = r · Var(u) · E[s²] · Var(v)`, which is split evenly over `u` and `v`, with `E[s²] = 1`.

use crate::StructureError;
use crate::orthogonal::orthonormalize;
use burn::module::{Param, ParamId};
use burn::nn::Initializer;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

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
        Ok(match TargetDistribution::of(dense, d_input, d_output)? {
            // An exact product: every entry is r · 1 · (value / r) · 1.
            TargetDistribution::Constant(value) => Self::constant(value, rank),
            // One zero factor is enough, and leaves it a gradient to grow by.
            TargetDistribution::Zeros => {
                Self { u: Initializer::Zeros, ..Self::with_variance(1.0 / d_input as f64, rank as f64) }
            }
            TargetDistribution::Variance(variance) => Self::with_variance(variance, rank as f64),
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
pub(crate) enum TargetDistribution {
    /// Every entry is this, and not 0.
    Constant(f64),
    /// Every entry is 0.
    Zeros,
    /// Entries of mean 0 and this variance.
    Variance(f64),
}

impl TargetDistribution {
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

/// `blocks` of `[size, rank]` with orthogonal columns, or rows where there are more columns, whose entries have the standard
/// deviation `std`.
///
/// Blocks of a factor are small, and small Gaussian matrices are badly conditioned: a square one hardly passes some of its
/// directions on. Orthogonal ones pass all of them alike. BLAST gains by it, measured on CIFAR-10; low-rank, Monarch and
/// Kronecker factors lost half a point to a point, and stay Gaussian.
pub(crate) fn orthogonal_blocks([blocks, size, rank]: [usize; 3], std: f64, device: &Device) -> Param<Tensor<3>> {
    lazy([blocks, size, rank], device, move |device| {
        let normal = Tensor::<3>::random([blocks, size, rank], Distribution::Normal(0.0, 1.0), device);
        let drawn: Vec<f64> = normal.to_data().iter::<f64>().collect();
        let scale = std * (size.max(rank) as f64).sqrt();
        // The columns of each block if they are the fewer, else its rows.
        let (count, length) = (size.min(rank), size.max(rank));
        let at = |row: usize, column: usize| if size >= rank { column * length + row } else { row * length + column };
        let entries = || (0..size).flat_map(|row| (0..rank).map(move |column| (row, column)));
        let mut vectors = vec![0.0; drawn.len()];
        for (vectors, drawn) in vectors.chunks_exact_mut(size * rank).zip(drawn.chunks_exact(size * rank)) {
            entries().zip(drawn).for_each(|((row, column), value)| vectors[at(row, column)] = *value);
        }
        orthonormalize(&mut vectors, count, length);
        let blocks_of = vectors.chunks_exact(size * rank);
        let values: Vec<f64> =
            blocks_of.flat_map(|block| entries().map(|(row, column)| block[at(row, column)] * scale)).collect();
        let data = TensorData::new(values, [blocks, size, rank]).convert_dtype(normal.dtype());
        Tensor::from_data(data, (device, normal.dtype()))
    })
}

/// Couplings of 1 and −1, as likely.
pub(crate) fn signs(shape: [usize; 3], device: &Device) -> Param<Tensor<3>> {
    lazy(shape, device, move |device| Tensor::random(shape, Distribution::Bernoulli(0.5), device) * 2.0 - 1.0)
}

/// A parameter that is drawn when it is first used, as Burn's own are.
fn lazy<const D: usize>(
    shape: [usize; D],
    device: &Device,
    draw: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    let init = move |device: &Device, require_grad| {
        let tensor = draw(device).detach();
        if require_grad { tensor.require_grad() } else { tensor }
    };
    Param::uninitialized(ParamId::new(), init, device.clone(), true, shape.into())
}

/// The initializer Burn's `Linear` uses: uniform in `±sqrt(1 / d_input)`.
pub(crate) fn dense_default() -> Initializer {
    Initializer::KaimingUniform { gain: 1.0 / 3.0f64.sqrt(), fan_out_only: false }
}

/// The bias `[d_output]` of a dense layer, if there is to be one.
pub(crate) fn dense_bias(
    wanted: bool,
    initializer: &Initializer,
    [d_input, d_output]: [usize; 2],
    device: &Device,
) -> Option<Param<Tensor<1>>> {
    wanted.then(|| initializer.init_with([d_output], Some(d_input), Some(d_output), device))
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
    fn orthogonal_blocks_are_orthogonal_and_of_the_given_size() {
        let device = Device::flex();
        device.seed(3);
        for [size, rank] in [[12, 5], [5, 12], [7, 7]] {
            let blocks = orthogonal_blocks([3, size, rank], 0.1, &device).val();
            let mean_square = blocks.clone().powf_scalar(2.0).mean().into_scalar::<f64>();
            assert!((mean_square - 0.01).abs() < 1e-6, "{size}×{rank}: {mean_square}");
            let gram = if size >= rank {
                blocks.clone().swap_dims(1, 2).matmul(blocks)
            } else {
                blocks.clone().matmul(blocks.swap_dims(1, 2))
            };
            let side = size.min(rank);
            let expected = Tensor::<2>::eye(side, &device) * (0.01 * size.max(rank) as f32);
            let error = (gram - expected.unsqueeze()).abs().max().into_scalar::<f64>();
            assert!(error < 1e-6, "{size}×{rank}: {error}");
        }
        let signs = signs([2, 3, 50], &device).val();
        assert_eq!(signs.clone().abs().sum().into_scalar::<f64>(), 300.0);
        assert!(signs.sum().into_scalar::<f64>().abs() < 60.0);
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
