//! How well a click model ranks, and where its time goes.

use super::auc;
use super::learner::cross_entropy;
use crate::data::clicks::Clicks;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_structured_models::dlrm::Dlrm;
use burn_structured_nn::on_pool;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a model achieves on examples that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClickEvaluation {
    /// Area under the ROC curve; `None` if all examples were clicked, or none.
    pub auc: Option<f64>,
    /// Mean cross-entropy, in nats.
    pub cross_entropy: f64,
}

/// Seconds of one batch in inference, the median over the repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentTimes {
    /// Examples of the batch.
    pub batch_size: usize,
    /// Looking up the vectors of the categories.
    pub embedding: f64,
    /// The bottom MLP.
    pub bottom: f64,
    /// The products of all pairs of vectors.
    pub interaction: f64,
    /// The top MLP.
    pub top: f64,
}

/// Ranks all examples of `clicks`.
pub fn evaluate_clicks(model: &Dlrm, clicks: &Clicks, batch_size: usize) -> ClickEvaluation {
    let model = model.valid();
    let device = model.embeddings.device().inner();
    let indices: Vec<usize> = (0..clicks.len()).collect();
    let (mut scores, mut sum) = (Vec::with_capacity(clicks.len()), 0.0);
    for chosen in indices.chunks(batch_size.max(1)) {
        let batch = clicks.batch(chosen, &device);
        let logits = model.forward(batch.numbers, batch.categories);
        sum += cross_entropy(logits.clone(), batch.clicked).into_scalar::<f64>() * chosen.len() as f64;
        scores.extend(logits.into_data().iter::<f64>());
    }
    ClickEvaluation { auc: auc(&scores, clicks.clicked()), cross_entropy: sum / clicks.len().max(1) as f64 }
}

/// The time of each component on the first `batch_size` examples of `clicks`, each run by itself until its device has finished.
///
/// # Panics
///
/// If there are not as many examples.
pub fn component_times(model: &Dlrm, clicks: &Clicks, batch_size: usize, repetitions: usize) -> ComponentTimes {
    let model = model.valid();
    let device = model.embeddings.device().inner();
    let batch = clicks.batch(&(0..batch_size).collect::<Vec<_>>(), &device);
    let (numbers, embedded) = (model.bottom(batch.numbers.clone()), model.embed(batch.categories.clone()));
    let interactions = model.interact(numbers.clone(), embedded.clone());
    ComponentTimes {
        batch_size,
        embedding: median(repetitions, &device, || model.embed(batch.categories.clone())),
        bottom: median(repetitions, &device, || model.bottom(batch.numbers.clone())),
        interaction: median(repetitions, &device, || model.interact(numbers.clone(), embedded.clone())),
        top: median(repetitions, &device, || model.top(interactions.clone())),
    }
}

/// The median time of `run`, after one run that is not counted.
fn median<const D: usize>(repetitions: usize, device: &Device, run: impl Fn() -> Tensor<D> + Sync) -> f64 {
    let once = || {
        let started = Instant::now();
        // As the model runs it.
        let output = on_pool(device, &run);
        // A device that cannot be waited for has nothing in flight.
        let _ = device.sync();
        drop(output);
        started.elapsed().as_secs_f64()
    };
    once();
    let mut times: Vec<f64> = (0..repetitions.max(1)).map(|_| once()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::clicks::{ClickShape, generate};
    use burn_structured_models::dlrm::DlrmConfig;

    #[test]
    fn evaluation_does_not_depend_on_the_batches() {
        let shape = ClickShape { numbers: 3, tables: vec![4, 4] };
        let [_, test] = generate(&shape, 0, 50, 2);
        let model = DlrmConfig::new(3, shape.tables).with_top(vec![16]).init(&Device::flex());
        let (one, many) = (evaluate_clicks(&model, &test, 50), evaluate_clicks(&model, &test, 7));
        assert!((one.cross_entropy - many.cross_entropy).abs() < 1e-5, "{one:?}, {many:?}");
        assert!((one.auc.unwrap() - many.auc.unwrap()).abs() < 1e-2, "{one:?}, {many:?}");
    }

    #[test]
    fn every_component_takes_time() {
        let shape = ClickShape { numbers: 3, tables: vec![4, 4] };
        let [_, test] = generate(&shape, 0, 8, 2);
        let model = DlrmConfig::new(3, shape.tables).with_top(vec![16]).init(&Device::flex());
        let times = component_times(&model, &test, 8, 3);
        let all = [times.embedding, times.bottom, times.interaction, times.top];
        assert!(all.iter().all(|time| *time > 0.0) && times.batch_size == 8, "{times:?}");
    }
}
