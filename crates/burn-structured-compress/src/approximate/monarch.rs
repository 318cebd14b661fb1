//! Monarch: blockwise decompositions in the metric of each block's inputs, and the left factor refitted to all of them.

use super::CalibratedWeight;
use crate::calibrate::Moment;
use crate::{CompressError, svd};
use burn::module::Param;
use burn::tensor::Tensor;
use burn_structured_nn::{Approximation, MonarchLinear, MonarchLinearConfig};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

/// A Monarch layer whose outputs are near those of a dense `weight [d_output, d_input]` on inputs of second moment `moment`, with
/// `bias` unchanged.
///
/// Every block is decomposed in the metric of its own inputs, which is optimal if inputs of different blocks are uncorrelated;
/// the left factor is then fitted by least squares to the right one in the whole metric, which is optimal for that right factor.
///
/// # Errors
///
/// If the configuration is invalid, a shape differs, the weight is not finite, or the moment is not positive definite.
pub fn monarch(
    config: &MonarchLinearConfig,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    moment: &Moment,
) -> Result<Approximation<MonarchLinear>, CompressError> {
    let (d_input, d_output) = (config.d_input, config.d_output);
    let ([b1, b2], rank) = config.resolve()?;
    let known = CalibratedWeight::new(&weight, bias.as_ref(), moment, [d_output, d_input])?;
    let (p, q) = (d_output / b1, d_input / b2);
    let mut right = vec![Mat::<f64>::zeros(b2 * rank, d_input); b1];
    let mut left = Vec::with_capacity(b1);
    for (group, right) in right.iter_mut().enumerate() {
        // Rows i b1 + g belong to group g.
        let rows = Mat::from_fn(p, d_input, |i, column| known.weight[(i * b1 + group, column)]);
        for j in 0..b2 {
            let own = known.moment.submatrix(j * q, j * q, q, q);
            let found = svd::truncated_in(rows.submatrix(0, j * q, p, q), own, rank.min(p).min(q), 0)?;
            for (component, value) in found.values.iter().take(found.left.ncols()).enumerate() {
                for column in 0..q {
                    right[(j * rank + component, j * q + column)] = found.right[(column, component)] * value.sqrt();
                }
            }
        }
        // L R C Rᵀ = W C Rᵀ.
        let weighted = &known.moment * right.transpose();
        let mut gram = &*right * &weighted;
        let trace: f64 = (0..gram.nrows()).map(|at| gram[(at, at)]).sum();
        // Blocks of lower rank leave rows of zeros.
        let damping = f64::EPSILON * trace.max(f64::MIN_POSITIVE);
        for at in 0..gram.nrows() {
            gram[(at, at)] += damping;
        }
        let solver = gram.llt(Side::Lower).map_err(|_| CompressError::Moment)?;
        left.push(solver.solve((rows * weighted).transpose()).transpose().to_owned());
    }
    let (inner, outer) = (rank * b1, rank * b2);
    let layer = MonarchLinear {
        // Row t b1 + g of block j is component t of group g.
        right: Param::from_tensor(known.upload([b2, inner, q], |at| {
            let (j, row, column) = (at / (inner * q), at / q % inner, at % q);
            right[row % b1][(j * rank + row / b1, j * q + column)]
        })),
        left: Param::from_tensor(
            known.upload([b1, p, outer], |at| left[at / (p * outer)][(at / outer % p, at % outer)]),
        ),
        bias: bias.map(|bias| Param::from_tensor(bias.detach())),
    };
    let dense = layer.to_dense();
    Ok(known.approximation(layer, dense))
}
