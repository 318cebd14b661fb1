//! Curves of error against parameters for the structures that a layer could have.

use crate::approximate::approximate_from;
use crate::calibrate::Moment;
use crate::factorize::{FactorizerConfig, Start};
use crate::{CompressError, Spectrum};
use burn::tensor::Tensor;
use burn_structured_nn::{BlastLinearConfig, LowRankLinearConfig, Structure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One structure that a layer could have.
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

/// All structures that a layer could have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCurve {
    /// In any order.
    pub points: Vec<CurvePoint>,
    /// How much the model suffers from a unit of this layer's squared error, against other layers. 1 takes the errors as they
    /// are; see [`with_model_error`](Self::with_model_error) for a measured one.
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

    /// `‖W‖²`, in the metric of the inputs if that is known; 0 where no point has an error to tell it by.
    pub fn squared_norm(&self) -> f64 {
        let norm = |point: &CurvePoint| point.squared_error / point.relative_error.powi(2);
        self.points.iter().find(|point| point.relative_error > 0.0).map_or(0.0, norm)
    }

    /// The same curve with relative errors that count as they are: what to take where layers' outputs are normalised, or where
    /// nothing is known about the model.
    #[must_use]
    pub fn with_relative_errors(self) -> Self {
        let norm = self.squared_norm();
        Self { sensitivity: if norm > 0.0 { 1.0 / norm } else { self.sensitivity }, ..self }
    }

    /// The same curve with errors that count as was measured: when the layer's relative error was `relative_error`, and no other
    /// layer had one, the squared error of the model's output was `model_error`; see [`model_errors`](super::model_errors).
    ///
    /// A layer without an error has shown nothing, and keeps its sensitivity.
    #[must_use]
    pub fn with_model_error(self, model_error: f64, relative_error: f64) -> Self {
        let squared_error = self.squared_norm() * relative_error.powi(2);
        let sensitivity = if squared_error > 0.0 { model_error / squared_error } else { self.sensitivity };
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

/// Tries each structure on a dense `weight [d_output, d_input]`, see [`approximate`](fn@crate::approximate).
///
/// The weight is decomposed once: the errors of low rank follow from its singular values, and all factorizations start from its
/// singular vectors.
///
/// # Errors
///
/// As [`approximate`](fn@crate::approximate).
pub fn measure(
    weight: &Tensor<2>,
    structures: &[Structure],
    moment: Option<&Moment>,
    factorizer: &FactorizerConfig,
) -> Result<Vec<CurvePoint>, CompressError> {
    let mut trials = Trials::new(weight, moment, factorizer)?;
    trials.highest = 0;
    for structure in structures {
        trials.highest = trials.highest.max(trials.rank(structure)?.unwrap_or(0));
    }
    structures.iter().map(|structure| trials.point(*structure)).collect()
}

/// Trials of structures on one weight, which is decomposed at most once.
pub(super) struct Trials<'a> {
    weight: &'a Tensor<2>,
    moment: Option<&'a Moment>,
    factorizer: &'a FactorizerConfig,
    /// `‖W‖²` in the metric.
    norm: f64,
    /// The highest rank that will be tried.
    highest: usize,
    spectrum: Option<Arc<Spectrum>>,
}

impl<'a> Trials<'a> {
    pub fn new(
        weight: &'a Tensor<2>,
        moment: Option<&'a Moment>,
        factorizer: &'a FactorizerConfig,
    ) -> Result<Self, CompressError> {
        let norm = square(weight, moment)?;
        Ok(Self { weight, moment, factorizer, norm, highest: usize::MAX, spectrum: None })
    }

    /// The rank of a structure that a decomposition serves.
    fn rank(&self, structure: &Structure) -> Result<Option<usize>, CompressError> {
        let [m, n] = self.weight.dims();
        Ok(match *structure {
            Structure::LowRank { rank } => Some(LowRankLinearConfig::new(n, m).with_rank(rank).resolve()?),
            Structure::Blast { blocks, rank } => {
                let (_, rank) = BlastLinearConfig::new(n, m).with_blocks(blocks).with_rank(rank).resolve()?;
                matches!(self.factorizer.method.start(), Start::Spectral { .. }).then_some(rank)
            }
            _ => None,
        })
    }

    fn spectrum(&mut self) -> Result<Arc<Spectrum>, CompressError> {
        let spectrum = match self.spectrum.take() {
            Some(spectrum) => spectrum,
            None => Arc::new(Spectrum::up_to(self.highest, self.weight, self.moment)?),
        };
        Ok(self.spectrum.insert(spectrum).clone())
    }

    /// The parameters and the error of a structure.
    pub fn point(&mut self, structure: Structure) -> Result<CurvePoint, CompressError> {
        let [m, n] = self.weight.dims();
        let (params, relative_error) = match (structure, self.rank(&structure)?) {
            (Structure::LowRank { .. }, Some(rank)) => {
                // The layer itself is rounded.
                let rounding = self.weight.dtype().finfo().map_or(0.0, |info| info.epsilon);
                let least = if self.norm == 0.0 { 0.0 } else { rounding };
                (rank * (m + n), self.spectrum()?.relative_error(rank).max(least))
            }
            (_, rank) => {
                let spectrum = rank.map(|_| self.spectrum()).transpose()?;
                let weight = self.weight.clone();
                let found = approximate_from(spectrum.as_ref(), structure, weight, None, self.moment, self.factorizer)?;
                (found.layer.cost().params, found.relative_error)
            }
        };
        Ok(CurvePoint { structure, params, squared_error: relative_error.powi(2) * self.norm, relative_error })
    }
}

/// `‖W‖²` in the metric.
fn square(weight: &Tensor<2>, moment: Option<&Moment>) -> Result<f64, CompressError> {
    let [_, n] = weight.dims();
    let entries: Vec<f64> = weight.to_data().iter::<f64>().collect();
    let Some(moment) = moment else { return Ok(entries.iter().map(|entry| entry.powi(2)).sum()) };
    if moment.features() != n {
        return Err(CompressError::InputFeatures { actual: moment.features(), expected: n });
    }
    let weighted: f64 = entries
        .chunks_exact(n.max(1))
        .map(|row| {
            let products = moment.sum().chunks_exact(n).map(|c| c.iter().zip(row).map(|(c, w)| c * w).sum::<f64>());
            products.zip(row).map(|(product, w)| product * w).sum::<f64>()
        })
        .sum();
    Ok(weighted / moment.tokens().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approximate;
    use crate::budget::allocate;
    use burn::tensor::{DType, Device, Distribution};

    #[test]
    fn measure_equals_approximate() {
        let device = Device::flex();
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (weight, inputs) = (random([20, 12]).cast(DType::F64), random([60, 12]).matmul(random([12, 12])));
        let mut moment = Moment::new(12);
        moment.add(inputs).unwrap();
        let structures: Vec<Structure> =
            ["low-rank:r=2", "blast:b=2,r=6", "low-rank:r=7", "monarch:b=2,r=2", "blast:b=4,r=3"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let settings = FactorizerConfig::new().with_steps(6);
        for moment in [None, Some(&moment)] {
            let points = measure(&weight, &structures, moment, &settings).unwrap();
            for (point, structure) in points.iter().zip(&structures) {
                let alone = approximate(*structure, weight.clone(), None, moment, &settings).unwrap();
                let known = moment.is_some();
                assert_eq!((point.structure, point.params), (*structure, alone.layer.cost().params));
                let ratio = point.relative_error / alone.relative_error;
                assert!((ratio - 1.0).abs() < 1e-9, "{structure}, known inputs {known}: {ratio}");
                // The squared error is absolute.
                let whole = point.squared_error / point.relative_error.powi(2);
                assert!((whole / square(&weight, moment).unwrap() - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn model_error_sets_the_sensitivity() {
        let device = Device::flex();
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let structures: Vec<Structure> = (1..8).map(|rank| format!("low-rank:r={rank}").parse().unwrap()).collect();
        let curve = |size: f64| {
            let weight: Tensor<2> = random([9, 8]) * size;
            LayerCurve::new(measure(&weight, &structures, None, &FactorizerConfig::new()).unwrap())
        };
        let curves = [curve(1.0), curve(100.0)];
        for curve in &curves {
            let point = curve.points[2];
            let measured = curve.clone().with_model_error(0.3, point.relative_error);
            assert!((measured.sensitivity * point.squared_error / 0.3 - 1.0).abs() < 1e-9);
            let relative = curve.clone().with_relative_errors();
            assert!((relative.sensitivity * point.squared_error / point.relative_error.powi(2) - 1.0).abs() < 1e-9);
            assert_eq!(curve.clone().with_model_error(0.0, 0.0), *curve);
        }
        // The larger matrix has the larger errors, and the smaller one all of the model's.
        let budget = curves[0].points[0].params + curves[1].points[6].params;
        assert_eq!(allocate(&curves, budget).unwrap().choices, [0, 6]);
        let [small, large] = curves;
        let measured = [small.with_model_error(1.0, 0.5), large.with_model_error(1e-9, 0.5)];
        assert_eq!(allocate(&measured, budget).unwrap().choices, [6, 0]);
    }
}
