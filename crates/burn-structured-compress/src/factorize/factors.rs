//! The factors of a batch of BLAST matrices, and their arithmetic.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use burn_structured_nn::BlastLinear;

/// The factors of `k` BLAST matrices of one shape and grid: block `(i, j)` is `U_i diag(s_ij) V_jᵀ`.
#[derive(Clone, Debug)]
pub struct BlastFactors {
    /// `[k, b1, m / b1, r]`.
    pub u: Tensor<4>,
    /// `[k, b1, b2, r]`.
    pub s: Tensor<4>,
    /// `[k, b2, n / b2, r]`.
    pub v: Tensor<4>,
}

impl BlastFactors {
    /// The number of matrices, `k`.
    pub fn matrices(&self) -> usize {
        self.s.dims()[0]
    }

    /// The rank, `r`.
    pub fn rank(&self) -> usize {
        self.s.dims()[3]
    }

    /// The same factors, in the same order, of one matrix of the batch as a layer.
    ///
    /// # Panics
    ///
    /// If `matrix` is not below the number of matrices, or the bias is not `[m]`.
    pub fn layer(&self, matrix: usize, bias: Option<Tensor<1>>) -> BlastLinear {
        assert!(matrix < self.matrices(), "matrix {matrix} of a batch of {}", self.matrices());
        let Self { u, s, v } = self.matrix(matrix);
        let one = |factor: Tensor<4>| Param::from_tensor(factor.squeeze_dim::<3>(0).detach());
        let [_, b1, p, _] = self.u.dims();
        assert!(bias.as_ref().is_none_or(|bias| bias.dims() == [b1 * p]), "the bias needs {} entries", b1 * p);
        BlastLinear { u: one(u), s: one(s), v: one(v), bias: bias.map(|bias| Param::from_tensor(bias.detach())) }
    }

    /// Those of one matrix.
    pub(super) fn matrix(&self, matrix: usize) -> Self {
        let one = |factor: &Tensor<4>| factor.clone().narrow(0, matrix, 1);
        Self { u: one(&self.u), s: one(&self.s), v: one(&self.v) }
    }

    /// The same matrices, with every component scaled so that `U` and `V` have equal norms and `s` has entries of unit size, which
    /// conditions the Gram matrices.
    ///
    /// The scales are powers of two: no entry is rounded.
    pub fn balanced(self) -> Self {
        let (k, r) = (self.matrices(), self.rank());
        let square = |factor: &Tensor<4>| factor.clone().powf_scalar(2.0).mean_dims(&[1, 2]);
        let squares = Tensor::cat(vec![square(&self.u), square(&self.s), square(&self.v)], 0);
        let squares: Vec<f64> = squares.into_data().iter::<f64>().collect();
        let mut scales = vec![1.0; 3 * k * r];
        for at in 0..k * r {
            let [u, s, v] = [0, 1, 2].map(|factor| squares[factor * k * r + at].sqrt().log2());
            // A component that is zero is not scaled.
            if [u, s, v].iter().all(|size| size.is_finite()) {
                let exponent = |wanted: f64| wanted.round().clamp(-60.0, 60.0) as i32;
                let (of_u, of_s) = (exponent((u + s + v) / 2.0 - u), exponent(-s));
                for (factor, exponent) in [of_u, of_s, -of_u - of_s].into_iter().enumerate() {
                    scales[factor * k * r + at] = 2f64.powi(exponent);
                }
            }
        }
        let (device, dtype) = (self.u.device(), self.u.dtype());
        let data = TensorData::new(scales, [3 * k, 1, 1, r]).convert_dtype(dtype);
        let scales = Tensor::<4>::from_data(data, (&device, dtype));
        let of = |factor: usize| scales.clone().narrow(0, factor * k, k);
        Self { u: self.u * of(0), s: self.s * of(1), v: self.v * of(2) }
    }

    /// The factors of `factor` times the matrices, one number for each matrix.
    pub(super) fn scaled(self, factor: &Tensor<1>) -> Self {
        let root: Tensor<4> = factor.clone().abs().sqrt().reshape([-1, 1, 1, 1]);
        let sign: Tensor<4> = factor.clone().sign().reshape([-1, 1, 1, 1]);
        Self { u: self.u * root.clone() * sign, s: self.s, v: self.v * root }
    }

    /// The sum with `by` times other factors.
    pub(super) fn plus(self, other: &Self, by: f64) -> Self {
        Self { u: self.u + other.u.clone() * by, s: self.s + other.s.clone() * by, v: self.v + other.v.clone() * by }
    }

    /// The sum with other factors, times a number for each matrix.
    pub(super) fn plus_scaled(self, other: &Self, by: &Tensor<1>) -> Self {
        let by: Tensor<4> = by.clone().reshape([-1, 1, 1, 1]);
        Self {
            u: self.u + other.u.clone() * by.clone(),
            s: self.s + other.s.clone() * by.clone(),
            v: self.v + other.v.clone() * by,
        }
    }

    /// The inner product with other factors, for each matrix.
    pub(super) fn dot(&self, other: &Self) -> Tensor<1> {
        let k = self.matrices();
        let product = |a: &Tensor<4>, b: &Tensor<4>| (a.clone() * b.clone()).sum_dims(&[1, 2, 3]).reshape([k]);
        product(&self.u, &other.u) + product(&self.s, &other.s) + product(&self.v, &other.v)
    }

    /// Matrix by matrix, these factors where `chosen` is true and the others elsewhere.
    pub(super) fn select(self, other: Self, chosen: &[bool]) -> Self {
        Self {
            u: select(self.u, other.u, chosen),
            s: select(self.s, other.s, chosen),
            v: select(self.v, other.v, chosen),
        }
    }
}

/// Index by index of the first axis, `one` where `chosen` is true and `other` elsewhere.
pub(super) fn select<const D: usize>(one: Tensor<D>, other: Tensor<D>, chosen: &[bool]) -> Tensor<D> {
    if chosen.iter().all(|chosen| *chosen) {
        return one;
    }
    if !chosen.contains(&true) {
        return other;
    }
    let parts = chosen.iter().enumerate().map(|(at, chosen)| {
        let from = if *chosen { &one } else { &other };
        from.clone().narrow(0, at, 1)
    });
    Tensor::cat(parts.collect(), 0)
}
