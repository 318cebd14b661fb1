//! Approximations of dense weights: one function for layers of all structures, and the closed forms for known inputs.
//!
//! The layers' own `from_dense` minimises `‖W − Ŵ‖`; the closed forms minimise the expected error of the outputs,
//! `‖(W − Ŵ) C^½‖` with the second moment `C` of the inputs.

mod calibrated;
mod low_rank;
mod monarch;
mod ss1;

pub use calibrated::relative_error;
pub(crate) use calibrated::{CalibratedWeight, read};
pub use low_rank::low_rank;
pub use monarch::monarch;
pub use ss1::ss1;

use crate::calibrate::Moment;
use crate::factorize::{FactorizerConfig, Start};
use crate::{CompressError, Spectrum};
use burn::tensor::Tensor;
use burn_structured_nn::{
    Approximation, BlastLinear, LowRankLinearConfig, MonarchLinearConfig, Ss1Hash, Ss1LinearConfig, Structure,
    StructureError, StructuredLinear, StructuredLinearConfig,
};
use std::sync::Arc;

/// Approximates a dense `weight [d_output, d_input]` by a layer of this structure, with `bias` unchanged.
///
/// With the second moment `C` of the inputs, `moment`, the error is `‖(W − Ŵ) C^½‖ / ‖W C^½‖`, and without it
/// `‖W − Ŵ‖ / ‖W‖`. BLAST is factorized with the settings of `factorizer` and the grid and rank of the structure; low rank,
/// Monarch and SS1 have closed forms. The other structures have none for known inputs: they are fitted to the weight, and only
/// their error is that on the inputs.
///
/// # Errors
///
/// If the structure does not fit the weight, the bias is not `[d_output]`, an entry is not finite, the moment is of other features or not positive definite
/// ([regularize](Moment::regularized) it), or the factorization fails.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_compress::{approximate, factorize::FactorizerConfig};
///
/// let weight = Tensor::<2>::random([24, 16], Distribution::Normal(0.0, 1.0), &Device::flex());
/// for structure in ["blast:b=4,ratio=0.5", "low-rank:ratio=0.5", "monarch:b=4,ratio=0.5", "ss1:c=2,k=4"] {
///     let found = approximate(structure.parse()?, weight.clone(), None, None, &FactorizerConfig::new())?;
///     println!("{structure}: relative error {:.3}", found.relative_error);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn approximate(
    structure: Structure,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    moment: Option<&Moment>,
    factorizer: &FactorizerConfig,
) -> Result<Approximation<StructuredLinear>, CompressError> {
    approximate_from(None, structure, weight, bias, moment, factorizer)
}

/// [`approximate`](fn@approximate) with the decomposition of the weight, in the metric of its inputs, if it is known.
pub(crate) fn approximate_from(
    spectrum: Option<&Arc<Spectrum>>,
    structure: Structure,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    moment: Option<&Moment>,
    factorizer: &FactorizerConfig,
) -> Result<Approximation<StructuredLinear>, CompressError> {
    let [d_output, d_input] = weight.dims();
    check_not_empty(&weight)?;
    check_bias(bias.as_ref(), d_output)?;
    match (structure, moment) {
        (Structure::Blast { blocks, rank }, _) => {
            let config = factorizer.clone().with_blocks(blocks).with_rank(rank);
            let mut factorizer = config.init();
            if let Some(moment) = moment {
                factorizer = factorizer.with_moment(moment.to_tensor(&weight.device()));
            }
            if let (Some(spectrum), Start::Spectral { noise }) = (spectrum, config.method.start()) {
                factorizer = factorizer.with_start(Start::Decomposed { spectrum: spectrum.clone(), noise });
            }
            let found = factorizer.factorize(weight)?;
            let layer: BlastLinear = found.layer(0, bias);
            Ok(Approximation { layer: StructuredLinear::Blast(layer), relative_error: found.errors()[0] })
        }
        (Structure::LowRank { rank }, Some(moment)) => {
            let config = LowRankLinearConfig::new(d_input, d_output).with_rank(rank);
            let Approximation { layer, relative_error } = low_rank(&config, weight, bias, moment)?;
            Ok(Approximation { layer: StructuredLinear::LowRank(layer), relative_error })
        }
        (Structure::Monarch { blocks, rank }, Some(moment)) => {
            let config = MonarchLinearConfig::new(d_input, d_output).with_blocks(blocks).with_rank(rank);
            let Approximation { layer, relative_error } = monarch(&config, weight, bias, moment)?;
            Ok(Approximation { layer: StructuredLinear::Monarch(layer), relative_error })
        }
        (Structure::Ss1 { reduction, block_k, block_n, independent }, Some(moment)) => {
            let hash = independent.map_or_else(Ss1Hash::default, |seed| Ss1Hash::Independent { seed, signs: true });
            let config = Ss1LinearConfig::new(d_input, d_output).with_reduction(reduction).with_hash(hash);
            let config = config.with_block_k(block_k).with_block_n(block_n);
            let Approximation { layer, relative_error } = ss1(&config, weight, bias, moment)?;
            Ok(Approximation { layer: StructuredLinear::Ss1(layer), relative_error })
        }
        (_, moment) => {
            let config = StructuredLinearConfig::new(d_input, d_output, structure);
            let mut found = config.from_dense(weight.clone(), bias)?;
            if let Some(moment) = moment {
                found.relative_error = relative_error(found.layer.to_dense(), &weight, moment)?;
            }
            Ok(found)
        }
    }
}

/// `Err` if the weight has no entries.
pub(crate) fn check_not_empty(weight: &Tensor<2>) -> Result<(), CompressError> {
    if weight.dims().contains(&0) { Err(CompressError::NoMatrix) } else { Ok(()) }
}

/// `Err` unless the bias is `[d_output]`.
pub(crate) fn check_bias(bias: Option<&Tensor<1>>, d_output: usize) -> Result<(), StructureError> {
    match bias {
        Some(bias) if bias.dims() != [d_output] => {
            Err(StructureError::WeightShape { name: "bias", actual: bias.dims().to_vec(), expected: vec![d_output] })
        }
        _ => Ok(()),
    }
}
