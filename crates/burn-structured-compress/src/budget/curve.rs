//! Error against parameters: what a layer could become.

use crate::calibrate::Moment;
use crate::factorize::FactorizerConfig;
use crate::{CompressError, approximate};
use burn::tensor::Tensor;
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};

/// One thing that a layer could become.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The structure.
    pub structure: Structure,
    /// Its weights, without a bias.
    pub params: usize,
    /// `‖W − Ŵ‖²`, in the metric of the inputs if that is known.
    pub squared_error: f64,
    /// The same error relative to `W`, not squared.
    pub relative_error: f64,
}

/// All that a layer could become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCurve {
    /// In any order.
    pub points: Vec<CurvePoint>,
    /// How much the model suffers from a unit of this layer's squared error, against other layers. 1 takes the errors as they
    /// are; measured on data it is what the model's loss rises by when this layer alone is compressed, over its squared error.
    pub sensitivity: f64,
    /// How many layers of the model share this curve.
    pub layers: usize,
}

impl LayerCurve {
    /// The curve of one layer, whose errors count as they are.
    pub fn new(points: Vec<CurvePoint>) -> Self {
        Self { points, sensitivity: 1.0, layers: 1 }
    }

    /// The same curve with errors that count this much.
    #[must_use]
    pub fn with_sensitivity(self, sensitivity: f64) -> Self {
        Self { sensitivity, ..self }
    }

    /// The points that no other beats in both parameters and error, by parameters.
    pub fn front(&self) -> Vec<CurvePoint> {
        let mut points = self.points.clone();
        points.sort_by(|a, b| a.params.cmp(&b.params).then(a.squared_error.total_cmp(&b.squared_error)));
        let mut least = f64::INFINITY;
        points.retain(|point| {
            let better = point.squared_error < least;
            least = least.min(point.squared_error);
            better
        });
        points
    }
}

/// Tries each structure on a dense `weight [d_output, d_input]`, see [`approximate`].
///
/// # Errors
///
/// As [`approximate`].
pub fn measure(
    weight: &Tensor<2>,
    structures: &[Structure],
    moment: Option<&Moment>,
    factorizer: &FactorizerConfig,
) -> Result<Vec<CurvePoint>, CompressError> {
    let norm = square(weight, moment)?;
    let point = |structure: &Structure| {
        let found = approximate(*structure, weight.clone(), None, moment, factorizer)?;
        let (params, relative_error) = (found.layer.cost().params, found.relative_error);
        Ok(CurvePoint { structure: *structure, params, squared_error: relative_error.powi(2) * norm, relative_error })
    };
    structures.iter().map(point).collect()
}

/// `‖W‖²` in the metric.
fn square(weight: &Tensor<2>, moment: Option<&Moment>) -> Result<f64, CompressError> {
    let [_, n] = weight.dims();
    let entries: Vec<f64> = weight.to_data().iter::<f64>().collect();
    let Some(moment) = moment else { return Ok(entries.iter().map(|entry| entry.powi(2)).sum()) };
    if moment.features() != n {
        return Err(CompressError::InputFeatures { actual: moment.features(), expected: n });
    }
    let weighed: f64 = entries
        .chunks_exact(n.max(1))
        .map(|row| {
            let products = moment.sum().chunks_exact(n).map(|c| c.iter().zip(row).map(|(c, w)| c * w).sum::<f64>());
            products.zip(row).map(|(product, w)| product * w).sum::<f64>()
        })
        .sum();
    Ok(weighed / moment.tokens().max(1) as f64)
}
