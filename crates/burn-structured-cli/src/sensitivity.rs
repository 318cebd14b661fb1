//! What the errors of a model's layers cost its output, measured on text.

use crate::context::Context;
use crate::failure::Failure;
use crate::statistics::paths;
use burn::tensor::Tensor;
use burn_structured_compress::approximate;
use burn_structured_compress::budget::model_errors;
use burn_structured_compress::calibrate::Calibrator;
use burn_structured_compress::factorize::FactorizerConfig;
use burn_structured_nn::{BlockModel, Rank, Structure, StructuredLinear};
use std::collections::BTreeMap;

/// Share of the identity in the second moments of the inputs, as in plans.
const REGULARIZATION: f64 = 0.01;

/// Batches that the output is measured on: a small part of the text is enough.
const BATCHES: usize = 8;

/// The squared relative error of the model's output for each unit of a layer's squared relative error, by the layer's
/// name: each layer alone is replaced by its best low-rank approximation with a share `target` of the weights.
///
/// # Errors
///
/// If a layer is not dense or its inputs are not known, an output is not finite, or after Ctrl-C.
pub fn sensitivities<M: BlockModel>(
    model: &M,
    batches: &[M::Batch],
    statistics: &Calibrator,
    target: f64,
    context: &Context,
) -> Result<BTreeMap<String, f64>, Failure> {
    let structure = Structure::LowRank { rank: Rank::Ratio(target) };
    let layers: BTreeMap<String, &StructuredLinear> =
        (0..model.blocks().len()).flat_map(|block| model.linears(block)).collect();
    let progress = context.progress(layers.len(), "layers");
    progress.message("measuring what errors cost");
    let step = (batches.len() / BATCHES).max(1);
    let batches: Vec<&M::Batch> = batches.iter().step_by(step).take(BATCHES).collect();
    let run = |model: &M| {
        let output = |batch: &&M::Batch| {
            let embedded = model.embed(batch);
            model.output(model.blocks().iter().fold(embedded, |x, block| M::forward_block(block, x, batch)), batch)
        };
        Tensor::cat(batches.iter().map(output).collect(), 0)
    };
    let (paths, mut found, mut failed) = (paths(model), BTreeMap::new(), None);
    let mut replacement = |name: &str| -> Result<Tensor<2>, Failure> {
        context.check("nothing was written; start again")?;
        let layer = layers.get(name).ok_or_else(|| Failure::new(format!("the model has no layer {name}")))?;
        let moment = statistics.find(name).map(|moment| moment.regularized(REGULARIZATION));
        let nearest = approximate(structure, layer.to_dense(), None, moment.as_ref(), &FactorizerConfig::new());
        let nearest = nearest.map_err(|error| Failure::new(format!("layer {name}: {error}")))?;
        found.insert(name.to_string(), nearest.relative_error);
        progress.advance();
        Ok(nearest.layer.to_dense())
    };
    let replacements = paths.iter().map_while(|(name, path)| match replacement(name) {
        Ok(weight) => Some((path.clone(), weight)),
        Err(failure) => {
            failed = Some(failure);
            None
        }
    });
    let errors = model_errors(model, replacements, run)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    // A layer of low rank has no error to divide by.
    let sensitivity = |(name, path): (String, String)| {
        let (squared, cost) = (found.get(&name)?.powi(2), *errors.get(&path)?);
        (squared > 0.0 && cost > 0.0).then(|| (name, cost / squared))
    };
    Ok(paths.into_iter().filter_map(sensitivity).collect())
}
