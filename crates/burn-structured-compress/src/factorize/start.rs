//! The start of an optimisation.
//!
//! The problem has many local optima, and random factors lead to worse ones: on matrices of a trained transformer, the error after
//! 60 steps from the truncated singular value decomposition is lower than after 300 steps from random factors.

use super::{BlastFactors, Problem};
use crate::error::{check_not_negative, check_positive};
use crate::{CompressError, Spectrum, svd};
use burn::tensor::{Tensor, TensorData};
use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::sync::Arc;

/// The start of an optimisation.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a run has one start")]
pub enum Start {
    /// The best low-rank matrix, whose couplings are all 1, plus noise of this standard deviation on the couplings, unless the
    /// matrix has that rank itself. Components above the rank of the matrix start with small random `U` and `V`.
    Spectral {
        /// Standard deviation of the noise.
        noise: f64,
    },
    /// `Spectral` from a known decomposition of the one matrix, in the metric of the factorization. One decomposition serves
    /// factorizations of all ranks.
    Decomposed {
        /// The decomposition.
        spectrum: Arc<Spectrum>,
        /// Standard deviation of the noise.
        noise: f64,
    },
    /// `U` and `V` drawn from `N(0, scale²/r)` and `s` from `N(0, 1)`, as the BLAST paper's code does with `scale` 1e-3.
    Random {
        /// Scale of `U` and `V`, relative to a matrix whose entries have unit variance.
        scale: f64,
    },
    /// These factors.
    Given(BlastFactors),
}

impl Start {
    /// The factors for `problem`, whose matrices are `1 / scale` of the given ones.
    pub(super) fn factors(
        &self,
        problem: &Problem,
        scale: &Tensor<1>,
        seed: u64,
    ) -> Result<BlastFactors, CompressError> {
        match self {
            Self::Spectral { noise } | Self::Decomposed { noise, .. } => check_not_negative("noise", *noise)?,
            Self::Random { scale } => check_positive("scale", *scale)?,
            Self::Given(_) => {}
        }
        let [k, m, n] = problem.dims();
        let ([b1, b2], r) = (problem.grid, problem.rank);
        let [u, s, v] = [[k, b1, m / b1, r], [k, b1, b2, r], [k, b2, n / b2, r]];
        // Drawn on the host, and once for all matrices: the start depends neither on the device nor on the batch.
        let mut rng = StdRng::seed_from_u64(seed);
        let mut normal = |shape: [usize; 4], mean: f64, std: f64| {
            let [k, a, b, c] = shape;
            let values = (0..a * b * c)
                .map(|_| mean + std * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng));
            upload(values.collect(), [1, a, b, c], problem).repeat_dim(0, k)
        };
        Ok(match self {
            Self::Spectral { noise } | Self::Decomposed { noise, .. } => {
                let Spectral { u, v, exact } = match self {
                    Self::Decomposed { spectrum, .. } => decomposed(problem, spectrum, scale, seed)?,
                    _ => spectral(problem, seed)?,
                };
                let noisy = exact.iter().map(|exact| if *exact { 0.0 } else { *noise }).collect::<Vec<f64>>();
                let noisy: Tensor<4> = problem.per_matrix(&noisy).reshape([-1, 1, 1, 1]);
                BlastFactors { u, s: normal(s, 0.0, 1.0) * noisy + 1.0, v }
            }
            Self::Random { scale } => {
                let std = scale / (r as f64).sqrt();
                BlastFactors { u: normal(u, 0.0, std), s: normal(s, 0.0, 1.0), v: normal(v, 0.0, std) }
            }
            Self::Given(factors) => {
                let shapes = [("u", &factors.u, u), ("s", &factors.s, s), ("v", &factors.v, v)];
                for (name, factor, expected) in shapes {
                    if factor.dims() != expected {
                        return Err(CompressError::StartShape { name, actual: factor.dims(), expected });
                    }
                    if !factor.clone().is_finite().all().into_scalar::<bool>() {
                        return Err(CompressError::StartNotFinite { name });
                    }
                }
                let here = |factor: &Tensor<4>| factor.clone().to_device(&problem.device()).cast(problem.dtype());
                let factors = BlastFactors { u: here(&factors.u), s: here(&factors.s), v: here(&factors.v) };
                factors.scaled(&scale.clone().recip())
            }
        })
    }
}

fn upload(values: Vec<f64>, shape: [usize; 4], problem: &Problem) -> Tensor<4> {
    let data = TensorData::new(values, shape).convert_dtype(problem.dtype());
    Tensor::from_data(data, (&problem.device(), problem.dtype()))
}

/// The best low-rank matrices in the problem's metric.
struct Spectral {
    /// `[k, b1, p, r]`.
    u: Tensor<4>,
    /// `[k, b2, q, r]`.
    v: Tensor<4>,
    /// Which of the matrices they are equal to, but for a millionth.
    exact: Vec<bool>,
}

impl Spectral {
    fn of(found: Vec<LowRank>, problem: &Problem) -> Self {
        let [k, m, n] = problem.dims();
        let ([b1, b2], r) = (problem.grid, problem.rank);
        let all = |factor: fn(&LowRank) -> &[f64]| found.iter().flat_map(factor).copied().collect::<Vec<f64>>();
        Self {
            u: upload(all(|found| &found.u), [k, b1, m / b1, r], problem),
            v: upload(all(|found| &found.v), [k, b2, n / b2, r], problem),
            exact: found.iter().map(|found| found.exact).collect(),
        }
    }
}

fn spectral(problem: &Problem, seed: u64) -> Result<Spectral, CompressError> {
    let ([k, m, n], r) = (problem.dims(), problem.rank);
    let read = |matrices: &Tensor<3>| matrices.to_data().iter::<f64>().collect::<Vec<f64>>();
    let target = read(&problem.target);
    let moment = problem.metric.as_ref().map(|metric| read(&metric.moment));
    let found = (0..k)
        .into_par_iter()
        .map(|matrix| {
            let dense = MatRef::from_row_major_slice(&target[matrix * m * n..][..m * n], m, n);
            let moment = moment.as_ref().map(|all| MatRef::from_row_major_slice(&all[matrix * n * n..][..n * n], n, n));
            low_rank(dense, moment, r, seed)
        })
        .collect::<Result<_, _>>()?;
    Ok(Spectral::of(found, problem))
}

/// From the decomposition of the only matrix, before it was divided by `scale`.
fn decomposed(problem: &Problem, spectrum: &Spectrum, scale: &Tensor<1>, seed: u64) -> Result<Spectral, CompressError> {
    let [matrices, m, n] = problem.dims();
    if matrices != 1 || spectrum.shape() != [m, n] {
        return Err(CompressError::SpectrumShape { actual: spectrum.shape(), matrices, expected: [m, n] });
    }
    let scale: f64 = scale.to_data().iter::<f64>().sum();
    let low_rank = LowRank::of(&spectrum.found, scale, [m, n], problem.rank, seed);
    Ok(Spectral::of(vec![low_rank], problem))
}

struct LowRank {
    /// `[m, r]`, row by row.
    u: Vec<f64>,
    /// `[n, r]`, row by row.
    v: Vec<f64>,
    exact: bool,
}

fn low_rank(
    dense: MatRef<'_, f64>,
    moment: Option<MatRef<'_, f64>>,
    rank: usize,
    seed: u64,
) -> Result<LowRank, CompressError> {
    let (m, n) = (dense.nrows(), dense.ncols());
    let known = rank.min(m).min(n);
    let found = match moment {
        None => svd::randomized(dense, known, seed)?,
        Some(moment) => svd::truncated_in(dense, moment, known, seed)?,
    };
    Ok(LowRank::of(&found, 1.0, [m, n], rank, seed))
}

impl LowRank {
    /// The factors of `1 / scale` times what was `found`.
    fn of(found: &svd::Truncated, scale: f64, [m, n]: [usize; 2], rank: usize, seed: u64) -> Self {
        // What is above the rank of the matrix starts small, but not at 0, where no gradient would reach it.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let small = 1e-3 / (rank as f64).sqrt();
        let largest = found.values.first().copied().unwrap_or(0.0);
        let known = found.values.iter().take(found.left.ncols()).take_while(|value| **value > 1e-12 * largest);
        let known: Vec<f64> = known.map(|value| (value / scale).sqrt()).collect();
        let mut factor = |vectors: &Mat<f64>, rows: usize, share: f64| {
            let mut entries = Vec::with_capacity(rows * rank);
            for row in 0..rows {
                for component in 0..rank {
                    entries.push(match known.get(component) {
                        Some(root) => vectors[(row, component)] * root,
                        None => share * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng),
                    });
                }
            }
            entries
        };
        let exact = found.truncation_error(rank) <= 1e-6;
        // Where the matrix is exact already, these components must not disturb it: one of each pair is 0.
        let u = factor(&found.left, m, if exact { 0.0 } else { small });
        Self { u, v: factor(&found.right, n, small), exact }
    }
}
