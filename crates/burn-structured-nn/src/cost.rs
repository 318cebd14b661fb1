//! What a layer costs, beside the dense layer it replaces.

use std::iter::Sum;
use std::ops::Add;

/// Parameters, arithmetic and memory traffic of one layer, or of several added up.
///
/// A multiplication and the addition that follows it are two FLOPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Stored parameters, the bias included.
    pub params: usize,
    /// FLOPs for one token (one row of the input).
    pub flops_per_token: usize,
    /// Bytes that a product with a single token has to read and write: the parameters, the input and the output.
    pub bytes_per_token: usize,
    /// [`params`](Self::params) of the dense layer of the same shape.
    pub dense_params: usize,
    /// [`flops_per_token`](Self::flops_per_token) of the dense layer of the same shape.
    pub dense_flops_per_token: usize,
}

impl Cost {
    /// The cost of a matrix `[d_output, d_input]` that takes `weights` parameters and as many multiplications a token.
    pub(crate) fn of_weights(
        weights: usize,
        d_input: usize,
        d_output: usize,
        bias: bool,
        bytes_per_element: usize,
    ) -> Self {
        let bias = if bias { d_output } else { 0 };
        let params = weights + bias;
        Self {
            params,
            flops_per_token: 2 * weights + bias,
            bytes_per_token: (params + d_input + d_output) * bytes_per_element,
            dense_params: d_input * d_output + bias,
            dense_flops_per_token: 2 * d_input * d_output + bias,
        }
    }

    /// The same layer with `multiplications` a token that are not one for each weight.
    pub(crate) fn with_multiplications(self, multiplications: usize) -> Self {
        let bias = 2 * self.dense_params - self.dense_flops_per_token;
        Self { flops_per_token: 2 * multiplications + bias, ..self }
    }

    /// Parameters relative to the dense layer's.
    pub fn params_ratio(&self) -> f64 {
        self.params as f64 / self.dense_params as f64
    }

    /// FLOPs relative to the dense layer's.
    pub fn flops_ratio(&self) -> f64 {
        self.flops_per_token as f64 / self.dense_flops_per_token as f64
    }

    /// How many times fewer parameters than the dense layer has.
    pub fn compression(&self) -> f64 {
        self.dense_params as f64 / self.params as f64
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            params: self.params + other.params,
            flops_per_token: self.flops_per_token + other.flops_per_token,
            bytes_per_token: self.bytes_per_token + other.bytes_per_token,
            dense_params: self.dense_params + other.dense_params,
            dense_flops_per_token: self.dense_flops_per_token + other.dense_flops_per_token,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
