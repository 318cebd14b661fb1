//! The nearest low-rank matrix: a truncated singular value decomposition.

use super::{Approximation, read_weight, svd};
use crate::parameter::parameter;
use crate::{LowRankLinear, LowRankLinearConfig, StructureError};
use burn::tensor::Tensor;

impl LowRankLinearConfig {
    /// The low-rank layer nearest to a dense `weight [d_output, d_input]`: its truncated singular value decomposition
    /// (Eckart, Young, 1936), with `bias` as it is.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<LowRankLinear>, StructureError> {
        let (d_input, d_output, rank) = (self.d_input, self.d_output, self.resolve()?);
        let values = read_weight(&weight, bias.as_ref(), d_input, d_output)?;
        let nearest = svd::balanced(svd::matrix(&values, d_output, d_input), rank)?;
        let [v, ut] = nearest.to_tensors(&weight.device(), weight.dtype());
        let layer = LowRankLinear { v: parameter(v), ut: parameter(ut), bias: bias.map(parameter) };
        Ok(Approximation::measured(layer, LowRankLinear::to_dense, weight))
    }
}
