//! The choice of the layers that stay dense.

use super::{CurvePoint, LayerCurve, allocate};
use crate::CompressError;
use burn_structured_nn::Structure;

/// A layer that is compressed or stays dense, and what its compression alone costs the model.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTrial {
    /// The layer's name.
    pub name: String,
    /// The structure that it would have.
    pub structure: Structure,
    /// The squared error of the model's output when this layer alone is compressed, see [`model_errors`](super::model_errors).
    pub model_error: f64,
    /// Parameters of the compressed layer.
    pub params: usize,
    /// Parameters of the dense layer.
    pub dense_params: usize,
}

/// How many layers stay dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepDense {
    /// So many, those whose compression costs most.
    Layers(usize),
    /// Those that leave the smallest sum of errors with at most so many parameters of all layers together.
    Params(usize),
}

/// The names of the layers that stay dense, those first whose compression alone costs the model most.
///
/// Layers with the same error are in the order of their names. With [`KeepDense::Params`] the errors are taken to add up, as small
/// ones do, and [`allocate`](fn@allocate) chooses.
///
/// # Errors
///
/// If more layers are to stay dense than there are, an error is negative or not finite, or the compressed layers have more parameters
/// than allowed.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_compress::budget::{KeepDense, LayerTrial, layers_to_keep_dense, model_errors};
/// use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};
///
/// let device = Device::flex();
/// let model: Vec<StructuredLinear> =
///     (0..3).map(|_| StructuredLinearConfig::new(8, 8, Structure::Dense).init(&device)).collect();
/// let x = Tensor::<2>::random([32, 8], Distribution::Normal(0.0, 1.0), &device);
/// let run = |model: &Vec<StructuredLinear>| model.iter().fold(x.clone(), |x, layer| layer.forward(x));
///
/// // Each layer alone in the structure, and what that costs.
/// let structure: Structure = "low-rank:r=2".parse()?;
/// let mut compressed = Vec::new();
/// for layer in &model {
///     compressed.push(StructuredLinearConfig::new(8, 8, structure).from_dense(layer.to_dense(), None)?.layer);
/// }
/// let replacements = compressed.iter().enumerate().map(|(at, layer)| (at.to_string(), layer.to_dense()));
/// let errors = model_errors(&model, replacements, run)?;
/// let trials: Vec<LayerTrial> = errors
///     .into_iter()
///     .zip(&compressed)
///     .map(|((name, model_error), layer)| {
///         let cost = layer.cost();
///         LayerTrial { name, structure, model_error, params: cost.params, dense_params: cost.dense_params }
///     })
///     .collect();
/// let dense = layers_to_keep_dense(&trials, KeepDense::Layers(1))?;
/// assert_eq!(dense.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn layers_to_keep_dense(trials: &[LayerTrial], keep: KeepDense) -> Result<Vec<String>, CompressError> {
    if let Some(layer) = trials.iter().position(|trial| !(trial.model_error.is_finite() && trial.model_error >= 0.0)) {
        return Err(CompressError::Curve { layer }.in_layer(&trials[layer].name));
    }
    let mut order: Vec<&LayerTrial> = trials.iter().collect();
    order.sort_by(|a, b| b.model_error.total_cmp(&a.model_error).then(a.name.cmp(&b.name)));
    match keep {
        KeepDense::Layers(count) if count > order.len() => {
            let range = "there are not so many layers; keep fewer of them";
            Err(CompressError::Setting { name: "the number of dense layers", value: count as f64, range })
        }
        KeepDense::Layers(count) => Ok(order[..count].iter().map(|trial| trial.name.clone()).collect()),
        KeepDense::Params(budget) => {
            let curves: Vec<LayerCurve> = order.iter().map(|trial| trial.curve()).collect();
            let choices = allocate(&curves, budget)?.choices;
            let kept = order.iter().zip(choices).filter(|(_, choice)| *choice == DENSE);
            Ok(kept.map(|(trial, _)| trial.name.clone()).collect())
        }
    }
}

/// The point of the dense layer on a trial's curve.
const DENSE: usize = 1;

impl LayerTrial {
    /// The layer compressed and dense, with the errors of the model's output.
    fn curve(&self) -> LayerCurve {
        let point = |structure, params, squared_error: f64| CurvePoint {
            structure,
            params,
            squared_error,
            relative_error: squared_error.sqrt(),
        };
        LayerCurve::new(vec![
            point(self.structure, self.params, self.model_error),
            point(Structure::Dense, self.dense_params, 0.0),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str, model_error: f64, params: usize, dense_params: usize) -> LayerTrial {
        LayerTrial { name: name.into(), structure: "low-rank:r=2".parse().unwrap(), model_error, params, dense_params }
    }

    fn trials() -> [LayerTrial; 4] {
        [trial("a", 0.1, 50, 100), trial("b", 0.4, 200, 400), trial("c", 0.3, 50, 100), trial("d", 0.3, 50, 100)]
    }

    #[test]
    fn most_sensitive_layers_stay_dense() {
        let keep = |count| layers_to_keep_dense(&trials(), KeepDense::Layers(count)).unwrap();
        assert_eq!(keep(0), [""; 0]);
        assert_eq!(keep(3), ["b", "c", "d"]);
        assert_eq!(keep(4), ["b", "c", "d", "a"]);
    }

    #[test]
    fn dense_layers_fit_the_parameters() {
        // All compressed take 350. A dense b adds 200, each of the others 50.
        let [mut a, b, c, mut d] = trials();
        (a.model_error, d.model_error) = (0.05, 0.2);
        let trials = [a, b, c, d];
        let keep = |params| layers_to_keep_dense(&trials, KeepDense::Params(params)).unwrap();
        assert_eq!(keep(350), [""; 0]);
        assert_eq!(keep(449), ["c"]);
        assert_eq!(keep(450), ["c", "d"]);
        assert_eq!(keep(650), ["b", "c", "d"]);
        assert_eq!(keep(700), ["b", "c", "d", "a"]);
    }

    #[test]
    fn impossible_choices_are_errors() {
        let fails = |trials: &[LayerTrial], keep| layers_to_keep_dense(trials, keep).unwrap_err().to_string();
        let error = fails(&trials(), KeepDense::Layers(5));
        assert_eq!(error, "the number of dense layers is 5; there are not so many layers; keep fewer of them");
        let error = fails(&trials(), KeepDense::Params(349));
        assert!(error.starts_with("a budget of 349 parameters is not enough: the layers take 350"), "{error}");
        let error = fails(&[trial("x", f64::NAN, 1, 2)], KeepDense::Layers(1));
        assert!(error.starts_with("layer x: "), "{error}");
    }
}
