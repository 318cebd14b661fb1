//! The nearest matrix of a structure for known inputs, in closed form.
//!
//! What `from_dense` of a layer does for the distance between weights, these functions do for the distance between outputs,
//! `‖(W − Ŵ) C^½‖` with the second moment `C` of the inputs: a weighted singular value decomposition or a weighted
//! least-squares problem, solved on the host in f64.

mod low_rank;
mod monarch;
mod ss1;

pub use low_rank::low_rank;
pub use monarch::monarch;
pub use ss1::ss1;

use crate::CompressError;
use crate::calibrate::Moment;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_nn::Approximation;
use faer::{Mat, MatRef};

/// A layer with its distance to a dense weight on inputs of second moment `moment`.
///
/// # Errors
///
/// If the weight is not finite, or the moment is of other features.
pub fn measured<L>(
    layer: L,
    to_dense: impl Fn(&L) -> Tensor<2>,
    weight: &Tensor<2>,
    moment: &Moment,
) -> Result<Approximation<L>, CompressError> {
    let problem = Problem::new(weight, moment, weight.dims())?;
    let dense = to_dense(&layer);
    if dense.dims() != weight.dims() {
        return Err(CompressError::WeightShape { actual: weight.dims(), expected: dense.dims() });
    }
    Ok(problem.measured(layer, dense))
}

/// A dense weight on the host.
///
/// # Errors
///
/// If an entry is not finite.
pub(crate) fn read(weight: &Tensor<2>) -> Result<Mat<f64>, CompressError> {
    let [m, n] = weight.dims();
    let entries: Vec<f64> = weight.to_data().iter::<f64>().collect();
    if let Some(first) = entries.iter().position(|entry| !entry.is_finite()) {
        let count = entries.iter().filter(|entry| !entry.is_finite()).count();
        return Err(CompressError::NotFinite { matrix: 0, count, row: first / n, column: first % n });
    }
    Ok(MatRef::from_row_major_slice(&entries, m, n).to_owned())
}

/// A dense weight and the moment of its inputs, on the host.
pub(crate) struct Problem {
    /// `W [m, n]`.
    pub weight: Mat<f64>,
    /// `C [n, n]`, positive definite.
    pub moment: Mat<f64>,
    device: Device,
    dtype: DType,
}

impl Problem {
    /// # Errors
    ///
    /// If the weight is not `[d_output, d_input]` or not finite, or the moment is of other features.
    pub fn new(weight: &Tensor<2>, moment: &Moment, [d_output, d_input]: [usize; 2]) -> Result<Self, CompressError> {
        let [m, n] = weight.dims();
        if [m, n] != [d_output, d_input] {
            return Err(CompressError::WeightShape { actual: [m, n], expected: [d_output, d_input] });
        }
        if moment.features() != n {
            return Err(CompressError::InputFeatures { actual: moment.features(), expected: n });
        }
        if !moment.sum().iter().all(|product| product.is_finite()) {
            return Err(CompressError::Moment);
        }
        let tokens = moment.tokens().max(1) as f64;
        Ok(Self {
            weight: read(weight)?,
            moment: Mat::from_fn(n, n, |row, column| moment.sum()[row * n + column] / tokens),
            device: weight.device(),
            dtype: weight.dtype(),
        })
    }

    /// The layer with its distance in the metric.
    fn measured<L>(&self, layer: L, dense: Tensor<2>) -> Approximation<L> {
        let (m, n) = (self.weight.nrows(), self.weight.ncols());
        let dense: Vec<f64> = dense.into_data().iter::<f64>().collect();
        let difference = MatRef::from_row_major_slice(&dense, m, n) - &self.weight;
        let size = |matrix: MatRef<'_, f64>| {
            let weighed = matrix * &self.moment;
            let square: f64 = (0..n).map(|column| matrix.col(column).transpose() * weighed.col(column)).sum();
            square.max(0.0).sqrt()
        };
        let (error, norm) = (size(difference.as_ref()), size(self.weight.as_ref()));
        Approximation { layer, relative_error: if error == 0.0 { 0.0 } else { error / norm } }
    }

    fn upload<const D: usize>(&self, shape: [usize; D], entry: impl Fn(usize) -> f64) -> Tensor<D> {
        let values: Vec<f64> = (0..shape.iter().product()).map(entry).collect();
        let data = TensorData::new(values, shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (&self.device, self.dtype))
    }
}
