//! A dense weight and the second moment of its inputs on the host, in f64: what the closed forms are computed from.

use super::check_bias;
use crate::CompressError;
use crate::calibrate::Moment;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_nn::Approximation;
use faer::{Mat, MatRef};

/// The relative error `‖(W − Ŵ) C^½‖ / ‖W C^½‖` of a matrix `approximation` of a dense `weight` (both `[d_output, d_input]`), on
/// inputs of second moment `C`, `moment`; 0 where both are equal.
///
/// # Errors
///
/// If the shapes differ, the weight is not finite, or the moment is of other features.
pub fn relative_error(approximation: Tensor<2>, weight: &Tensor<2>, moment: &Moment) -> Result<f64, CompressError> {
    CalibratedWeight::new(weight, None, moment, approximation.dims()).map(|known| known.relative_error(approximation))
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

/// A dense weight and the second moment of its inputs.
pub(crate) struct CalibratedWeight {
    /// `W [m, n]`.
    pub weight: Mat<f64>,
    /// `C [n, n]`, finite.
    pub moment: Mat<f64>,
    device: Device,
    dtype: DType,
}

impl CalibratedWeight {
    /// # Errors
    ///
    /// If the weight is not `[d_output, d_input]` or not finite, the bias is not `[d_output]`, or the moment is of other features
    /// or not finite.
    pub fn new(
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        moment: &Moment,
        [d_output, d_input]: [usize; 2],
    ) -> Result<Self, CompressError> {
        let [m, n] = weight.dims();
        if [m, n] != [d_output, d_input] {
            return Err(CompressError::WeightShape { actual: [m, n], expected: [d_output, d_input] });
        }
        check_bias(bias, d_output)?;
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

    /// The error of an approximation of the same shape, in the metric.
    fn relative_error(&self, approximation: Tensor<2>) -> f64 {
        let (m, n) = (self.weight.nrows(), self.weight.ncols());
        let entries: Vec<f64> = approximation.into_data().iter::<f64>().collect();
        let difference = MatRef::from_row_major_slice(&entries, m, n) - &self.weight;
        let norm = |matrix: MatRef<'_, f64>| {
            let weighted = matrix * &self.moment;
            let square: f64 = (0..n).map(|column| matrix.col(column).transpose() * weighted.col(column)).sum();
            square.max(0.0).sqrt()
        };
        let error = norm(difference.as_ref());
        if error == 0.0 { 0.0 } else { error / norm(self.weight.as_ref()) }
    }

    /// A layer whose matrix is `dense`, with its error in the metric.
    pub fn approximation<L>(&self, layer: L, dense: Tensor<2>) -> Approximation<L> {
        Approximation { layer, relative_error: self.relative_error(dense) }
    }

    /// A tensor of the weight's type, on its device.
    pub fn upload<const D: usize>(&self, shape: [usize; D], entry: impl Fn(usize) -> f64) -> Tensor<D> {
        let values: Vec<f64> = (0..shape.iter().product()).map(entry).collect();
        let data = TensorData::new(values, shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (&self.device, self.dtype))
    }
}
