//! Second moments of the inputs that a layer has in the dense model and behind the compressed prefix.

use crate::CompressError;
use burn::tensor::{DType, Tensor};
use faer::Mat;
use faer::linalg::solvers::Solve;

/// Inputs whose products are summed on the device in f32: few enough for its precision.
const AT_ONCE: usize = 2048;

/// Sums over pairs of inputs `x` of the dense model and `x̂` behind the compressed prefix, in f64 on the host.
pub(super) struct PairMoments {
    features: usize,
    pairs: u64,
    /// `Σ x`.
    dense: Vec<f64>,
    /// `Σ x̂`.
    compressed: Vec<f64>,
    /// `Σ x x̂ᵀ`, row by row.
    cross: Vec<f64>,
    /// `Σ x̂ x̂ᵀ`, row by row.
    gram: Vec<f64>,
    lack: Option<Lack>,
    /// Pairs that are not summed yet.
    waiting: Vec<Pair>,
}

/// Inputs `[tokens, n]` of the same tokens.
pub(super) struct Pair {
    pub dense: Tensor<2>,
    pub compressed: Tensor<2>,
    /// `r - r̂`, `[tokens, m]`: what the stream that the layer's outputs are added to lacks behind the compressed prefix.
    pub lack: Option<Tensor<2>>,
}

/// Sums over what the residual lacks, `d = r - r̂`.
struct Lack {
    /// `Σ d`.
    sum: Vec<f64>,
    /// `Σ d x̂ᵀ`, row by row.
    cross: Vec<f64>,
}

/// What a layer's factors are fitted to, in place of its weight, and in which metric.
///
/// With means `μ`, `μ̂` and centred moments `G = E[(x̂ - μ̂)(x̂ - μ̂)ᵀ] + λ I`, `C = E[(x - μ)(x̂ - μ̂)ᵀ] + λ I`, the error of the
/// outputs `W x + b` of the dense layer, anchored by `α`, is for every `Ŵ` with the best bias `b + W μ - Ŵ μ̂`
///
/// ```text
/// E‖W x_α - Ŵ x̂‖² = ‖(T_α - Ŵ) G^½‖² + const,  T_α = W ((1 - α) I + α C G⁻¹),  x_α = (1 - α) x̂ + α x
/// ```
///
/// A layer whose outputs are added to a residual `r` also makes up for a share of what that lacks, `d = r - r̂` with the mean `δ`:
/// with `D = E[(d - δ)(x̂ - μ̂)ᵀ]`, the target of `W x_α + α d` is `T_α + α D G⁻¹`, and the bias has all of `δ` added.
pub(super) struct Anchor {
    /// `G`, with a mean diagonal of `1 + λ`.
    pub gram: Mat<f64>,
    /// `C G⁻¹`.
    correction: Mat<f64>,
    /// `D G⁻¹`.
    lack: Option<Mat<f64>>,
    /// `δ`.
    lack_mean: Option<Vec<f64>>,
    /// `μ` and `μ̂`; zero where the moments are not centred.
    pub means: [Vec<f64>; 2],
}

impl PairMoments {
    /// Of inputs with so many `features`, and of what a residual of so many features lacks.
    pub fn new(features: usize, residual: Option<usize>) -> Self {
        let (vector, matrix) = (vec![0.0; features], vec![0.0; features * features]);
        Self {
            features,
            pairs: 0,
            dense: vector.clone(),
            compressed: vector,
            cross: matrix.clone(),
            gram: matrix,
            lack: residual.map(|outputs| Lack { sum: vec![0.0; outputs], cross: vec![0.0; outputs * features] }),
            waiting: Vec::new(),
        }
    }

    /// Adds inputs; those since the last [`sum`](Self::sum) may still wait.
    ///
    /// # Errors
    ///
    /// If the shapes differ from each other or from those before, or an input is not finite.
    pub fn add(&mut self, pair: Pair) -> Result<(), CompressError> {
        let tokens = pair.dense.dims()[0];
        for inputs in [&pair.dense, &pair.compressed] {
            let [rows, features] = inputs.dims();
            if features != self.features {
                return Err(CompressError::InputFeatures { actual: features, expected: self.features });
            }
            if rows != tokens {
                return Err(CompressError::Pairs { dense: tokens, compressed: rows });
            }
        }
        let actual = pair.lack.as_ref().map(Tensor::dims);
        let expected = self.lack.as_ref().map(|lack| [tokens, lack.sum.len()]);
        if actual != expected {
            let [actual, expected] = [actual, expected].map(Option::unwrap_or_default);
            return Err(CompressError::Residual { actual, expected });
        }
        self.waiting.push(pair);
        let waiting: usize = self.waiting.iter().map(|pair| pair.dense.dims()[0]).sum();
        if waiting >= AT_ONCE { self.sum() } else { Ok(()) }
    }

    /// Sums the pairs that wait.
    ///
    /// # Errors
    ///
    /// If an input is not finite.
    pub fn sum(&mut self) -> Result<(), CompressError> {
        let (mut dense, mut compressed, mut lack) = (Vec::new(), Vec::new(), Vec::new());
        for pair in self.waiting.drain(..) {
            dense.push(pair.dense);
            compressed.push(pair.compressed);
            lack.extend(pair.lack);
        }
        if dense.is_empty() {
            return Ok(());
        }
        let whole = |inputs: Vec<Tensor<2>>| {
            let inputs = Tensor::cat(inputs, 0).detach();
            if inputs.dtype() == DType::F64 { inputs } else { inputs.cast(DType::F32) }
        };
        let (dense, compressed) = (whole(dense), whole(compressed));
        let lack = (!lack.is_empty()).then(|| whole(lack));
        let tokens = dense.dims()[0];
        for first in (0..tokens).step_by(AT_ONCE) {
            let some = |inputs: &Tensor<2>| inputs.clone().narrow(0, first, AT_ONCE.min(tokens - first));
            let (dense, compressed) = (some(&dense), some(&compressed));
            add(&mut self.dense, dense.clone().sum_dim(0));
            add(&mut self.compressed, compressed.clone().sum_dim(0));
            add(&mut self.cross, dense.transpose().matmul(compressed.clone()));
            if let (Some(sums), Some(lack)) = (&mut self.lack, &lack) {
                let lack = some(lack);
                add(&mut sums.sum, lack.clone().sum_dim(0));
                add(&mut sums.cross, lack.transpose().matmul(compressed.clone()));
            }
            add(&mut self.gram, compressed.clone().transpose().matmul(compressed));
        }
        self.pairs += tokens as u64;
        // An input that is not finite is seen in its own sum or square.
        let squares = self.gram.iter().step_by(self.features + 1);
        let mut known = self.dense.iter().zip(squares);
        match known.position(|(sum, square)| !(sum + square).is_finite()) {
            Some(feature) => Err(CompressError::InputNotFinite { feature }),
            None => Ok(()),
        }
    }

    /// What to fit to, for a share `regularization` of the identity in both moments, scaled to a mean diagonal of 1 for `G`.
    /// `centred` is for layers whose bias can be refitted. Pairs that wait do not count.
    ///
    /// # Errors
    ///
    /// If `G` is not positive definite.
    pub fn anchor(&self, regularization: f64, centred: bool) -> Result<Anchor, CompressError> {
        let (n, pairs) = (self.features, self.pairs.max(1) as f64);
        let mean = |sum: &[f64]| sum.iter().map(|sum| if centred { sum / pairs } else { 0.0 }).collect::<Vec<f64>>();
        let means = [mean(&self.dense), mean(&self.compressed)];
        let [dense, compressed] = &means;
        let moment = |sum: &[f64], left: &[f64]| {
            Mat::from_fn(left.len(), n, |row, column| sum[row * n + column] / pairs - left[row] * compressed[column])
        };
        let (mut gram, mut cross) = (moment(&self.gram, compressed), moment(&self.cross, dense));
        let trace: f64 = (0..n).map(|at| gram[(at, at)]).sum();
        // Without inputs, or constant ones, the plain distance.
        let (scale, share) = if trace > 0.0 { (n as f64 / trace, regularization) } else { (0.0, 1.0) };
        for moment in [&mut gram, &mut cross] {
            *moment *= faer::Scale(scale);
            for at in 0..n {
                moment[(at, at)] += share;
            }
        }
        let solver = gram.llt(faer::Side::Lower).map_err(|_| CompressError::Moment)?;
        // (C G⁻¹)ᵀ = G⁻¹ Cᵀ.
        let over_gram = |moment: Mat<f64>| solver.solve(moment.transpose()).transpose().to_owned();
        let correction = over_gram(cross);
        let lack_mean = self.lack.as_ref().map(|lack| mean(&lack.sum));
        let lack = self.lack.as_ref().zip(lack_mean.as_ref());
        let lack = lack.map(|(lack, mean)| over_gram(moment(&lack.cross, mean) * faer::Scale(scale)));
        Ok(Anchor { gram, correction, lack, lack_mean, means })
    }
}

impl Anchor {
    /// `T_α + α D G⁻¹`, for the weight `W [m, n]`.
    pub fn target(&self, weight: &Mat<f64>, alpha: f64) -> Mat<f64> {
        if alpha == 0.0 {
            return weight.clone();
        }
        let mut corrected = weight * &self.correction;
        if let Some(lack) = &self.lack {
            corrected += lack;
        }
        weight * faer::Scale(1.0 - alpha) + corrected * faer::Scale(alpha)
    }

    /// `W μ - Ŵ μ̂ + δ`: what a bias has to make up for.
    pub fn shift(&self, weight: &Mat<f64>, found: &Mat<f64>) -> Vec<f64> {
        let [dense, compressed] = &self.means;
        let row = |matrix: &Mat<f64>, row: usize, mean: &[f64]| -> f64 {
            mean.iter().enumerate().map(|(column, mean)| matrix[(row, column)] * mean).sum()
        };
        let lack = |at: usize| self.lack_mean.as_ref().map_or(0.0, |mean| mean[at]);
        (0..weight.nrows()).map(|at| row(weight, at, dense) - row(found, at, compressed) + lack(at)).collect()
    }
}

fn add(sums: &mut [f64], terms: Tensor<2>) {
    sums.iter_mut().zip(terms.into_data().iter::<f64>()).for_each(|(sum, term)| *sum += term);
}
