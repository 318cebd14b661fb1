//! The compression of the pretrained encoder, layer by layer on the inputs of calibration.

use burn_structured::compress::approximate;
use burn_structured::compress::budget::{KeepDense, LayerTrial, block_model_errors, layers_to_keep_dense};
use burn_structured::compress::calibrate::Calibrator;
use burn_structured::compress::factorize::FactorizerConfig;
use burn_structured::models::bert::{Bert, TokenBatch, batches_of_one_length};
use burn_structured::nn::{Approximation, Structure, StructuredLinear, StructuredLinearConfig};
use indicatif::ProgressBar;
use std::error::Error;
use std::time::Instant;

/// Share of the identity in the second moments of the inputs.
const REGULARIZATION: f64 = 0.01;

/// Sentences of a batch.
const BATCH: usize = 32;

/// What the compression of every structure uses.
pub struct Calibration {
    moments: Calibrator,
    /// Sentences on which one compressed layer at a time is tried.
    trials: Vec<TokenBatch>,
}

/// A compressed encoder.
pub struct Compressed {
    pub model: Bert,
    /// The layers that stayed dense, the most sensitive first.
    pub dense_layers: Vec<String>,
    /// Mean relative error of the compressed layers' outputs.
    pub layer_error: f64,
    pub seconds: f64,
}

/// # Errors
///
/// If the model is not dense, or the structure does not fit one of its layers.
pub fn check_fits(model: &Bert, structure: Structure) -> Result<(), String> {
    let mut fits: Vec<[usize; 2]> = Vec::new();
    for (name, layer) in model.linears() {
        if layer.structure() != Some(Structure::Dense) || layer.is_int8() {
            return Err(format!("{name} is not dense in --model; give the dense model"));
        }
        let shape @ [d_input, d_output] = [layer.d_input(), layer.d_output()];
        if !fits.contains(&shape) {
            let config = StructuredLinearConfig::new(d_input, d_output, structure);
            let layer = config.try_init(&model.device());
            layer.map_err(|error| format!("{structure} does not fit {name} ({d_input} → {d_output}): {error}"))?;
            fits.push(shape);
        }
    }
    Ok(())
}

/// So many of the sentences, from all over them.
pub fn evenly(sentences: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let count = count.min(sentences.len());
    (0..count).map(|index| sentences[index * sentences.len() / count].clone()).collect()
}

impl Calibration {
    /// Runs the dense model on `sentences`.
    pub fn new(
        model: &Bert,
        sentences: Vec<Vec<u32>>,
        trials: Vec<Vec<u32>>,
        bar: &ProgressBar,
    ) -> Result<Self, Box<dyn Error>> {
        let device = model.device();
        let batches = batches_of_one_length(sentences, BATCH, &device);
        bar.set_length(batches.len() as u64);
        let mut moments = Calibrator::new();
        for batch in &batches {
            moments.record_blocks(model, batch)?;
            bar.inc(1);
        }
        Ok(Self { moments, trials: batches_of_one_length(trials, BATCH, &device) })
    }

    /// The dense `model` with all layers in this structure but those that `keep` leaves dense.
    pub fn compress(
        &self,
        model: &Bert,
        structure: Structure,
        keep: KeepDense,
        bar: &ProgressBar,
    ) -> Result<Compressed, Box<dyn Error>> {
        let started = Instant::now();
        let mut compressed = model.clone();
        if structure == Structure::Dense {
            let dense_layers = model.linears().map(|(name, _)| name).collect();
            return Ok(Compressed { model: compressed, dense_layers, layer_error: 0.0, seconds: 0.0 });
        }
        bar.set_length(2 * model.linears().count() as u64);
        let mut found = Vec::new();
        for (name, layer) in model.linears() {
            let moment = self.moments.find(&name).map(|moment| moment.regularized(REGULARIZATION));
            let bias = layer.bias().map(|bias| bias.val());
            let approximation =
                approximate(structure, layer.to_dense(), bias, moment.as_ref(), &FactorizerConfig::new())
                    .map_err(|error| format!("{structure} for {name}: {error}"))?;
            found.push((name, approximation));
            bar.inc(1);
        }
        // One layer at a time in the dense model.
        let replacements = found.iter().map(|(name, approximation)| {
            bar.inc(1);
            (name.clone(), approximation.layer.to_dense())
        });
        let errors = block_model_errors(model, &self.trials, replacements)?;
        let trial = |(name, approximation): &(String, Approximation<StructuredLinear>)| {
            let cost = approximation.layer.cost();
            let (params, dense_params) = (cost.params, cost.dense_params);
            LayerTrial { name: name.clone(), structure, model_error: errors[name], params, dense_params }
        };
        let trials: Vec<LayerTrial> = found.iter().map(trial).collect();
        let dense_layers = layers_to_keep_dense(&trials, keep).map_err(|error| format!("{structure}: {error}"))?;
        let mut layer_errors = Vec::new();
        for ((name, layer), (_, approximation)) in compressed.linears_mut().zip(found) {
            if !dense_layers.contains(&name) {
                layer_errors.push(approximation.relative_error);
                *layer = approximation.layer;
            }
        }
        let layer_error = layer_errors.iter().sum::<f64>() / layer_errors.len().max(1) as f64;
        Ok(Compressed { model: compressed, dense_layers, layer_error, seconds: started.elapsed().as_secs_f64() })
    }
}
