//! The nearest SS1 matrix: means of the tied weights.

use super::{Approximation, read_weight};
use crate::parameter::parameter;
use crate::{Ss1Linear, Ss1LinearConfig, StructureError};
use burn::tensor::Tensor;
use burn_structured_ops::ss1::ss1_from_dense;

impl Ss1LinearConfig {
    /// The SS1 layer nearest to a dense `weight [d_output, d_input]`: each stored weight is the mean of those it stands for,
    /// signs undone, which is the least-squares optimum. `bias` is kept as it is.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<Ss1Linear>, StructureError> {
        let function = self.function()?;
        read_weight(&weight, bias.as_ref(), self.d_input, self.d_output)?;
        let z = ss1_from_dense(weight.clone(), function.fold(self.d_output));
        let layer = Self::layer(function, parameter(z), bias.map(parameter), &weight.device());
        Ok(Approximation::measured(layer, Ss1Linear::to_dense, weight))
    }
}
