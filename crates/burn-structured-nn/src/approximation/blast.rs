//! A BLAST matrix near a dense one.

use super::{Approximation, factorization, read_weight};
use crate::parameter::parameter;
use crate::{BlastLinear, BlastLinearConfig, StructureError};
use burn::tensor::Tensor;

impl BlastLinearConfig {
    /// A layer near a dense `weight [d_output, d_input]`, with `bias` as it is.
    ///
    /// The start is the nearer of the best low-rank matrix and the best one with blocks of low rank, both of which BLAST
    /// contains and which are found in closed form, on the host and in f64; alternating least squares then improve it to a
    /// local optimum. Matrices of low rank, with blocks of low rank, or block-diagonal, are found exactly if the rank
    /// suffices for their embedding.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<BlastLinear>, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let (grid, rank) = self.resolve()?;
        let values = read_weight(&weight, bias.as_ref(), d_input, d_output)?;
        let factors = factorization::factorize(&values, [d_output, d_input], grid, rank)?;
        let [u, s, v] = factors.into_tensors(&weight.device(), weight.dtype());
        let layer = BlastLinear { u: parameter(u), s: parameter(s), v: parameter(v), bias: bias.map(parameter) };
        Ok(Approximation::measured(layer, BlastLinear::to_dense, weight))
    }
}
