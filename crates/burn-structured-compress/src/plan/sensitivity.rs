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

/// What the layers' errors cost the model, by the layers' names. Every layer has a trial, its best approximation of low rank with half
/// of its weights, whose relative error is `e_l`, of its outputs if `calibration` knows their inputs. The cost of layer `l` is
///
/// ```text
/// (E(l) + E(all) − E(all but l)) / (2 e_l²),    E(layers) = ‖y − ŷ‖² / ‖y‖²
/// ```
///
/// for the model's outputs `y` on `batches` and `ŷ` with the trials of these layers in place: the mean of what the layer's error adds to
/// the dense model's and to the compressed model's, where the errors of the others are already. Errors add up to less than their sum, and
/// the first one to more than its share. The features in front of each block are computed once.
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
    // Every layer is in the trials, and then alone in the dense model or missing in the compressed one.
    let layers: usize = 2 * (0..model.blocks().len()).map(|block| model.linears(block).len()).sum::<usize>();
    let mut done = 0;
    let mut next = |layer: &str| {
        let flow = observer(PlanProgress { layer, done, layers });
        done += 1;
        if flow.is_break() { Err(CompressError::Interrupted) } else { Ok(()) }
    };
    let mut compressed = model.clone();
    let mut squares = Vec::new();
    for index in 0..model.blocks().len() {
        let mut of_block = Vec::new();
        for (at, (name, layer)) in model.linears(index).into_iter().enumerate() {
            next(&name)?;
            let trial = trial(layer, calibration.and_then(|known| known.find(&name)), regularization);
            let (trial, error) = trial.map_err(|error| error.in_layer(&name))?;
            *M::linears_mut(&mut compressed.blocks_mut()[index])[at] = trial;
            of_block.push(error.powi(2));
        }
        squares.push(of_block);
    }
    let expected = outputs(model, batches);
    let norm: f64 = expected.iter().map(|output| square(output.clone())).sum();
    let (mut dense, mut student) = (Run::new(model, batches), Run::new(&compressed, batches));
    let all = student.error(0, None, &expected);
    let mut found = BTreeMap::new();
    for (index, squares) in squares.iter().enumerate() {
        for ((at, (name, _)), squared) in model.linears(index).into_iter().enumerate().zip(squares) {
            next(&name)?;
            let swapped = |from: &M, to: &M| {
                let (mut block, mut other) = (to.blocks()[index].clone(), from.blocks()[index].clone());
                std::mem::swap(M::linears_mut(&mut block)[at], M::linears_mut(&mut other)[at]);
                block
            };
            let alone = dense.error(index, Some(&swapped(&compressed, model)), &expected);
            let without = student.error(index, Some(&swapped(model, &compressed)), &expected);
            let added = (alone + (all - without).max(0.0)) / (2.0 * norm);
            // A layer without an error has shown nothing; one that the model ignores costs nothing.
            let cost = if *squared > 0.0 { added / squared } else { 1.0 };
            if !cost.is_finite() {
                return Err(CompressError::OutputNotFinite.in_layer(&name));
            }
            found.insert(name, cost);
        }
        dense.advance(index);
        student.advance(index);
    }
    Ok(found)
}

/// A model on batches, with the features in front of a block.
struct Run<'a, M: BlockModel> {
    model: &'a M,
    batches: &'a [M::Batch],
    features: Vec<Tensor<3>>,
}

impl<'a, M: BlockModel> Run<'a, M> {
    fn new(model: &'a M, batches: &'a [M::Batch]) -> Self {
        Self { model, batches, features: batches.iter().map(|batch| model.embed(batch)).collect() }
    }

    /// `‖y − ŷ‖²` of the outputs with another block at `index`, which the features are in front of.
    fn error(&self, index: usize, block: Option<&M::Block>, expected: &[Tensor<2>]) -> f64 {
        let Self { model, batches, features } = self;
        let of_batch = |((features, batch), expected): ((&Tensor<3>, &M::Batch), &Tensor<2>)| {
            let block = block.unwrap_or(&model.blocks()[index]);
            let behind = M::forward_block(block, features.clone(), batch);
            let rest = model.blocks()[index + 1..].iter();
            let output = model.output(rest.fold(behind, |x, block| M::forward_block(block, x, batch)), batch);
            square(output - expected.clone())
        };
        features.iter().zip(*batches).zip(expected).map(of_batch).sum()
    }

    /// Takes the features behind block `index`.
    fn advance(&mut self, index: usize) {
        for (features, batch) in self.features.iter_mut().zip(self.batches) {
            *features = M::forward_block(&self.model.blocks()[index], features.clone(), batch);
        }
    }
}

fn outputs<M: BlockModel>(model: &M, batches: &[M::Batch]) -> Vec<Tensor<2>> {
    let output = |batch: &M::Batch| {
        let features = model.blocks().iter().fold(model.embed(batch), |x, block| M::forward_block(block, x, batch));
        model.output(features, batch)
    };
    batches.iter().map(output).collect()
}

fn square(tensor: Tensor<2>) -> f64 {
    tensor.square().sum().into_scalar::<f64>()
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
    fn sensitivities_are_means_over_both_models() {
        let model = Toy::new(2, 3);
        let batches = batches(2, 7);
        let found = sensitivities(&model, &batches, None, 0.01, &mut quiet).unwrap();
        assert_eq!(found.len(), 6);
        let trials: Vec<Vec<(StructuredLinear, f64)>> = (0..2)
            .map(|block| model.linears(block).into_iter().map(|(_, layer)| trial(layer, None, 0.01).unwrap()).collect())
            .collect();
        // The model with the trials of some layers.
        let error = |replaced: &dyn Fn(usize, usize) -> bool| -> f64 {
            let mut student = model.clone();
            for (block, trials) in trials.iter().enumerate() {
                for (at, (trial, _)) in trials.iter().enumerate().filter(|(at, _)| replaced(block, *at)) {
                    *Toy::linears_mut(&mut student.blocks_mut()[block])[at] = trial.clone();
                }
            }
            batches.iter().map(|batch| square(student.output_of(batch) - model.output_of(batch))).sum()
        };
        let norm: f64 = batches.iter().map(|batch| square(model.output_of(batch))).sum();
        for (block, trials) in trials.iter().enumerate() {
            for (at, (name, _)) in model.linears(block).into_iter().enumerate() {
                let alone = error(&|other, layer| (other, layer) == (block, at));
                let others = error(&|other, layer| (other, layer) != (block, at));
                let added = alone + (error(&|_, _| true) - others).max(0.0);
                let expected = added / (2.0 * norm * trials[at].1.powi(2));
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
