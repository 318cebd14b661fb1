//! SS1: every row's stored weights by least squares in the metric of the inputs.

use super::CalibratedWeight;
use crate::CompressError;
use crate::calibrate::Moment;
use burn::tensor::Tensor;
use burn_structured_nn::{Approximation, Ss1Linear, Ss1LinearConfig};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

/// The SS1 layer whose outputs are nearest to those of a dense `weight [d_output, d_input]` on inputs of second moment `moment`,
/// with `bias` unchanged.
///
/// A row of the weight is `M z`, with the stored weights `z` and a matrix `M` that repeats them by rotation and sign; the best
/// are `z = (Mᵀ C M)⁻¹ Mᵀ C w`, which for the plain distance is the mean of the tied weights.
///
/// # Errors
///
/// If the configuration is invalid, a shape differs, the weight is not finite, or the moment is not positive definite.
pub fn ss1(
    config: &Ss1LinearConfig,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    moment: &Moment,
) -> Result<Approximation<Ss1Linear>, CompressError> {
    let (d_input, d_output, fold) = (config.d_input, config.d_output, config.fold()?);
    let known = CalibratedWeight::new(&weight, bias.as_ref(), moment, [d_output, d_input])?;
    let weighted = &known.weight * &known.moment;
    let width = fold.width();
    let mut stored = Mat::<f64>::zeros(width, d_output);
    for block in 0..fold.output_blocks(d_output) {
        let rows = fold.output_rows(d_output, block);
        let sources = fold.sources(block);
        let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
        let mut gram = Mat::<f64>::zeros(width, width);
        for (column, (to, negative)) in sources.iter().enumerate() {
            for (row, (from, other)) in sources.iter().enumerate() {
                gram[(*from, *to)] += known.moment[(row, column)] * sign(*negative != *other);
            }
        }
        // Stored weights that a partly empty group never uses stay 0.
        for at in 0..width {
            if gram[(at, at)] == 0.0 {
                gram[(at, at)] = 1.0;
            }
        }
        let mut target = Mat::<f64>::zeros(width, rows.len());
        for (at, row) in rows.clone().enumerate() {
            for (feature, (to, negative)) in sources.iter().enumerate() {
                target[(*to, at)] += weighted[(row, feature)] * sign(*negative);
            }
        }
        let solver = gram.llt(Side::Lower).map_err(|_| CompressError::Moment)?;
        stored.subcols_mut(rows.start, rows.len()).copy_from(solver.solve(target));
    }
    let z = known.upload([width, d_output], |at| stored[(at / d_output, at % d_output)]);
    let layer = config.from_stored(z, bias)?;
    let dense = layer.to_dense();
    Ok(known.approximation(layer, dense))
}
