//! What the errors of a model's layers cost its output.

use crate::CompressError;
use crate::approximate::approximate;
use crate::calibrate::Calibrator;
use crate::factorize::FactorizerConfig;
use crate::plan::PlanProgress;
use burn::tensor::Tensor;
use burn_structured_nn::{BlockModel, Rank, Structure, StructuredLinear};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The share of its weights that a layer keeps in a trial.
const TRIAL_SHARE: f64 = 0.5;

/// What the layers' errors cost the model, by the layers' names: for layer `l`, replaced alone by its best approximation of low rank,
/// with half of its weights,
///
/// ```text
/// (‖y − ŷ_l‖² / ‖y‖²) / e_l²
/// ```
///
/// with the model's output `y` on `batches` and the layer's relative error `e_l`, of its outputs if `calibration` knows their inputs.
/// For small errors the quotient does not depend on the approximation. A few batches are enough, and the features in front of each
/// block are computed once.
///
/// This is what [`PlanConfig::sensitivities`](super::PlanConfig::sensitivities) takes.
///
/// # Errors
///
/// If there are no batches, a weight is not finite, a moment is of other features, an output is not finite, or `observer` breaks.
pub fn sensitivities<M: BlockModel>(
    model: &M,
    batches: &[M::Batch],
    calibration: Option<&Calibrator>,
    regularization: f64,
    observer: &mut dyn FnMut(PlanProgress<'_>) -> ControlFlow<()>,
) -> Result<BTreeMap<String, f64>, CompressError> {
    if batches.is_empty() {
        return Err(CompressError::NoBatches);
    }
    let output = |features: Tensor<3>, first: usize, batch: &M::Batch| {
        let features = model.blocks()[first..].iter().fold(features, |x, block| M::forward_block(block, x, batch));
        model.output(features, batch)
    };
    let square = |tensor: Tensor<2>| tensor.square().sum().into_scalar::<f64>();
    let mut features: Vec<Tensor<3>> = batches.iter().map(|batch| model.embed(batch)).collect();
    let dense: Vec<Tensor<2>> =
        features.iter().zip(batches).map(|(features, batch)| output(features.clone(), 0, batch)).collect();
    let norm: f64 = dense.iter().map(|output| square(output.clone())).sum();
    let layers = (0..model.blocks().len()).map(|block| model.linears(block).len()).sum();
    let mut found = BTreeMap::new();
    for (index, block) in model.blocks().iter().enumerate() {
        for (at, (name, layer)) in model.linears(index).into_iter().enumerate() {
            if observer(PlanProgress { layer: &name, done: found.len(), layers }).is_break() {
                return Err(CompressError::Interrupted);
            }
            let trial = trial(layer, calibration.and_then(|known| known.find(&name)), regularization);
            let (trial, layer_error) = trial.map_err(|error| error.in_layer(&name))?;
            let mut replaced = block.clone();
            *M::linears_mut(&mut replaced)[at] = trial;
            let errors = features.iter().zip(batches).zip(&dense).map(|((features, batch), dense)| {
                let behind = M::forward_block(&replaced, features.clone(), batch);
                square(output(behind, index + 1, batch) - dense.clone())
            });
            let model_error = errors.sum::<f64>() / norm;
            // A layer without an error has shown nothing; one that the model ignores costs nothing.
            let cost = if layer_error > 0.0 { model_error / layer_error.powi(2) } else { 1.0 };
            if !cost.is_finite() {
                return Err(CompressError::OutputNotFinite.in_layer(&name));
            }
            found.insert(name, cost);
        }
        for (features, batch) in features.iter_mut().zip(batches) {
            *features = M::forward_block(block, features.clone(), batch);
        }
    }
    Ok(found)
}

/// A layer of low rank in place of another, and its relative error.
fn trial(
    layer: &StructuredLinear,
    moment: Option<&crate::calibrate::Moment>,
    regularization: f64,
) -> Result<(StructuredLinear, f64), CompressError> {
    let moment = moment.map(|moment| moment.regularized(regularization));
    let structure = Structure::LowRank { rank: Rank::Ratio(TRIAL_SHARE) };
    let bias = layer.bias().map(|bias| bias.val());
    let found = approximate(structure, layer.to_dense(), bias, moment.as_ref(), &FactorizerConfig::new())?;
    Ok((found.layer, found.relative_error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Toy, batches};
    use burn_structured_nn::BlockModel;

    fn quiet(_: PlanProgress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn sensitivities_are_those_of_single_replacements() {
        let model = Toy::new(2, 3);
        let batches = batches(2, 7);
        let found = sensitivities(&model, &batches, None, 0.01, &mut quiet).unwrap();
        assert_eq!(found.len(), 6);
        let square = |tensor: Tensor<2>| tensor.square().sum().into_scalar::<f64>();
        for block in 0..2 {
            for (at, (name, layer)) in model.linears(block).into_iter().enumerate() {
                let (layer, error) = trial(layer, None, 0.01).unwrap();
                let mut replaced = model.clone();
                *Toy::linears_mut(&mut replaced.blocks_mut()[block])[at] = layer;
                let (mut difference, mut norm) = (0.0, 0.0);
                for batch in &batches {
                    let dense = model.output_of(batch);
                    difference += square(replaced.output_of(batch) - dense.clone());
                    norm += square(dense);
                }
                let expected = difference / norm / error.powi(2);
                assert!((found[&name] / expected - 1.0).abs() < 1e-3, "{name}: {} against {expected}", found[&name]);
            }
        }
    }

    #[test]
    fn sensitivities_need_batches_and_can_be_interrupted() {
        let model = Toy::new(1, 3);
        assert!(matches!(sensitivities(&model, &[], None, 0.01, &mut quiet), Err(CompressError::NoBatches)));
        let stopped = sensitivities(&model, &batches(1, 7), None, 0.01, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(CompressError::Interrupted)));
    }
}
