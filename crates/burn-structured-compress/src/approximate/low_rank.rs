//! Low rank: the truncated singular value decomposition in the metric of the inputs.

use super::CalibratedWeight;
use crate::calibrate::Moment;
use crate::{CompressError, svd};
use burn::module::Param;
use burn::tensor::Tensor;
use burn_structured_nn::{Approximation, LowRankLinear, LowRankLinearConfig};

/// The low-rank layer whose outputs are nearest to those of a dense `weight [d_output, d_input]` on inputs of second moment
/// `moment`, with `bias` unchanged: with `C = L Lᵀ`, the truncated singular value decomposition of `W L`, times `L⁻¹` (Wang et
/// al., SVD-LLM, 2024). No low-rank matrix is nearer.
///
/// # Errors
///
/// If the configuration is invalid, a shape differs, the weight is not finite, or the moment is not positive definite.
pub fn low_rank(
    config: &LowRankLinearConfig,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    moment: &Moment,
) -> Result<Approximation<LowRankLinear>, CompressError> {
    let (d_input, d_output, rank) = (config.d_input, config.d_output, config.resolve()?);
    let known = CalibratedWeight::new(&weight, bias.as_ref(), moment, [d_output, d_input])?;
    let found = svd::truncated_in(known.weight.as_ref(), known.moment.as_ref(), rank, 0)?;
    let size = |component: usize| found.values[component].sqrt();
    let layer = LowRankLinear {
        v: Param::from_tensor(
            known.upload([d_input, rank], |at| found.right[(at / rank, at % rank)] * size(at % rank)),
        ),
        ut: Param::from_tensor(
            known.upload([rank, d_output], |at| found.left[(at % d_output, at / d_output)] * size(at / d_output)),
        ),
        bias: bias.map(|bias| Param::from_tensor(bias.detach())),
    };
    let dense = layer.to_dense();
    Ok(known.approximation(layer, dense))
}
