//! The nearest block-diagonal matrix.

use super::{Approximation, read_weight};
use crate::parameter::parameter;
use crate::{BlockDiagonalLinear, BlockDiagonalLinearConfig, StructureError};
use burn::tensor::Tensor;
use burn_structured_ops::pixelfly::pixelfly_blocks;

impl BlockDiagonalLinearConfig {
    /// The block-diagonal layer nearest to a dense `weight [d_output, d_input]`: its blocks on the diagonal, with `bias` as it
    /// is.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<BlockDiagonalLinear>, StructureError> {
        let blocks = self.resolve()?;
        read_weight(&weight, bias.as_ref(), self.d_input, self.d_output)?;
        let w = parameter(pixelfly_blocks(weight.clone(), blocks, 1));
        let layer = BlockDiagonalLinear { w, bias: bias.map(parameter) };
        Ok(Approximation::measured(layer, BlockDiagonalLinear::to_dense, weight))
    }
}
