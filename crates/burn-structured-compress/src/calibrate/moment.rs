//! The second moment of a layer's inputs.

use crate::CompressError;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Inputs whose products are summed on the device in f32: few enough for its precision.
const AT_ONCE: usize = 1024;

/// `C = E[x xᵀ]` of inputs `x [n]`: a running sum in f64, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    features: usize,
    /// Inputs summed up.
    tokens: u64,
    /// Row by row.
    sum: Vec<f64>,
}

impl Moment {
    /// The moment of no inputs, `features` wide.
    pub fn new(features: usize) -> Self {
        Self { features, tokens: 0, sum: vec![0.0; features * features] }
    }

    /// A moment from its parts: the sum of `x xᵀ` over `tokens` inputs, row by row.
    ///
    /// # Panics
    ///
    /// If the sum is not `[features, features]`.
    pub fn from_sum(features: usize, tokens: u64, sum: Vec<f64>) -> Self {
        assert_eq!(sum.len(), features * features, "a sum of {features}×{features} products");
        Self { features, tokens, sum }
    }

    /// Adds inputs `[tokens, n]`. Products of up to 1,024 inputs are summed on the device, in f64 if the inputs are f64 and else in
    /// f32, and these sums in f64.
    ///
    /// # Errors
    ///
    /// If there are other features than before, or an input is not finite; the moment is then unchanged.
    pub fn add(&mut self, inputs: Tensor<2>) -> Result<(), CompressError> {
        let [tokens, features] = inputs.dims();
        if features != self.features {
            return Err(CompressError::InputFeatures { actual: features, expected: self.features });
        }
        if tokens == 0 || features == 0 {
            return Ok(());
        }
        let dtype = if inputs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let inputs = inputs.detach().cast(dtype);
        let mut products = vec![0.0; features * features];
        for first in (0..tokens).step_by(AT_ONCE) {
            let some = inputs.clone().narrow(0, first, AT_ONCE.min(tokens - first));
            let sums = some.clone().transpose().matmul(some).into_data();
            products.iter_mut().zip(sums.iter::<f64>()).for_each(|(product, sum)| *product += sum);
        }
        self.merge(&Self { features, tokens: tokens as u64, sum: products })
    }

    /// Adds the inputs of another moment.
    ///
    /// # Errors
    ///
    /// If it is of other features, or a sum of squares is not finite; the moment is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), CompressError> {
        if other.features != self.features {
            return Err(CompressError::InputFeatures { actual: other.features, expected: self.features });
        }
        // No product is larger than the squares: an input that is not finite is seen in its own.
        let mut squares = self.sum.iter().zip(&other.sum).step_by(self.features + 1);
        if let Some(feature) = squares.position(|(sum, other)| !(sum + other).is_finite()) {
            return Err(CompressError::InputNotFinite { feature });
        }
        for (sum, other) in self.sum.iter_mut().zip(&other.sum) {
            *sum += other;
        }
        self.tokens = self.tokens.saturating_add(other.tokens);
        Ok(())
    }

    /// The number of features, `n`.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The number of inputs seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The sum of `x xᵀ`, row by row.
    pub fn sum(&self) -> &[f64] {
        &self.sum
    }

    /// The moment scaled to a mean diagonal of 1, plus `share` times the identity: positive definite for a share above 0,
    /// however few inputs were seen, and near the plain distance for a large one.
    ///
    /// A moment without inputs becomes the identity.
    #[must_use]
    pub fn regularized(&self, share: f64) -> Self {
        let n = self.features;
        let trace: f64 = self.sum.iter().step_by(n + 1).sum();
        let scale = if trace > 0.0 { n as f64 / trace } else { 0.0 };
        let share = if trace > 0.0 { share } else { 1.0 };
        let mut sum: Vec<f64> = self.sum.iter().map(|product| product * scale).collect();
        for diagonal in sum.iter_mut().step_by(n + 1) {
            *diagonal += share;
        }
        Self { features: n, tokens: 1, sum }
    }

    /// `E[x xᵀ]`, `[n, n]`, in f64 where the device has it, else in f32.
    pub fn to_tensor(&self, device: &Device) -> Tensor<2> {
        let dtype = if device.supports_dtype(DType::F64) { DType::F64 } else { DType::F32 };
        let count = self.tokens.max(1) as f64;
        let mean: Vec<f64> = self.sum.iter().map(|product| product / count).collect();
        Tensor::from_data(TensorData::new(mean, [self.features; 2]).convert_dtype(dtype), (device, dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn merge_equals_one_batch() {
        let device = Device::flex();
        let inputs = Tensor::<2>::random([40, 6], Distribution::Normal(1.0, 2.0), &device).cast(DType::F64);
        let mut whole = Moment::new(6);
        whole.add(inputs.clone()).unwrap();
        let (mut first, mut second) = (Moment::new(6), Moment::new(6));
        first.add(inputs.clone().narrow(0, 0, 13)).unwrap();
        second.add(inputs.clone().narrow(0, 13, 27)).unwrap();
        first.merge(&second).unwrap();
        assert_eq!((first.tokens(), whole.tokens()), (40, 40));
        let values: Vec<f64> = inputs.into_data().iter::<f64>().collect();
        for (at, (split, whole)) in first.sum().iter().zip(whole.sum()).enumerate() {
            let expected: f64 = values.chunks(6).map(|row| row[at / 6] * row[at % 6]).sum();
            assert!((split - expected).abs() < 1e-9 && (whole - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn invalid_inputs_leave_the_moment_unchanged() {
        let device = Device::flex();
        let mut moment = Moment::new(2);
        moment.add(Tensor::from_data([[1.0, 2.0]], &device)).unwrap();
        let before = moment.clone();
        let error = moment.add(Tensor::from_data([[1.0, f32::NAN]], &device)).unwrap_err();
        assert!(error.to_string().contains("feature 1"), "{error}");
        assert!(moment.add(Tensor::zeros([3, 5], &device)).is_err());
        assert_eq!(moment, before);
    }

    #[test]
    fn regularized_has_mean_diagonal_one() {
        let moment = Moment::from_sum(2, 10, vec![30.0, 5.0, 5.0, 10.0]).regularized(0.5);
        assert_eq!(moment.sum(), [2.0, 0.25, 0.25, 1.0]);
        assert_eq!(Moment::new(2).regularized(0.0).sum(), [1.0, 0.0, 0.0, 1.0]);
    }
}
