//! The nearest sum of Kronecker products.

use super::svd::{self, Balanced};
use super::{Approximation, read_weight};
use crate::parameter::parameter;
use crate::{KroneckerLinear, KroneckerLinearConfig, StructureError};
use burn::tensor::Tensor;
use faer::Mat;

impl KroneckerLinearConfig {
    /// The layer nearest to a dense `weight [d_output, d_input]`, with `bias` as it is: the truncated singular value
    /// decomposition of the rearranged weight, whose rows are its blocks (Van Loan, Pitsianis, *Approximation with Kronecker
    /// Products*, 1993).
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init); if the shapes differ from the layer's, or an entry of `weight` is not finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<KroneckerLinear>, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let ([m1, n1], terms) = self.resolve()?;
        let (m2, n2) = (d_output / m1, d_input / n1);
        let values = read_weight(&weight, bias.as_ref(), d_input, d_output)?;
        let blocks = Mat::from_fn(m1 * n1, m2 * n2, |block, entry| {
            values[(block / n1 * m2 + entry / n2) * d_input + block % n1 * n2 + entry % n2]
        });
        let Balanced { left, right } = svd::balanced(blocks.as_ref(), terms)?;
        let (device, dtype) = (weight.device(), weight.dtype());
        let factor = |factor: &Mat<f64>, [rows, columns]: [usize; 2]| {
            let size = rows * columns;
            parameter(svd::tensor([terms, rows, columns], |at| factor[(at % size, at / size)], &device, dtype))
        };
        let (a, b) = (factor(&left, [m1, n1]), factor(&right, [m2, n2]));
        let layer = KroneckerLinear { a, b, bias: bias.map(parameter) };
        Ok(Approximation::measured(layer, KroneckerLinear::to_dense, weight))
    }
}
