//! The nearest sum of components in whole windows.

use super::Approximation;
use crate::{GaudiLinear, GaudiLinearConfig, LowRankLinear, LowRankLinearConfig, Rank, StructureError};
use burn::tensor::Tensor;

impl GaudiLinearConfig {
    /// The layer nearest to a dense `weight [d_output, d_input]`, with `bias` as it is: the truncated singular value
    /// decomposition in windows as wide as the matrix. No narrower windows come nearer, since a sum of `r` components has
    /// rank `r` at most; they can be learned from there.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<GaudiLinear>, StructureError> {
        let rank = Rank::Fixed(self.resolve()?);
        let config = LowRankLinearConfig::new(self.d_input, self.d_output).with_rank(rank);
        Ok(config.from_dense(weight, bias)?.map(|LowRankLinear { v, ut, bias }| {
            let rank = v.shape()[1];
            self.layer(v, ut, bias, 1.0, [vec![0.0; rank], vec![0.0; rank]])
        }))
    }
}
