//! Accuracy and speed of a trained model.

use super::ImageClassifier;
use crate::data::{ImageBatcher, ImageSet};
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a model achieves on the test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Share of the test images whose most likely class is right.
    pub accuracy: f64,
    /// Images a second in inference: the median over the batches, data preparation excluded.
    pub images_per_second: f64,
}

/// Classifies every test image.
pub fn evaluate(model: &impl ImageClassifier, set: &ImageSet, batch_size: usize, device: &Device) -> Evaluation {
    let model = model.valid();
    let device = device.clone().inner();
    let batcher = ImageBatcher::evaluation(set);
    let total = set.test.len();
    let (mut correct, mut rates) = (0.0, Vec::new());
    for start in (0..total).step_by(batch_size.max(1)) {
        let range = (start..total.min(start + batch_size)).collect::<Vec<_>>();
        let images = range.len();
        let Ok(items) = set.test.get_many(range) else { unreachable!("images in memory can be read") };
        let batch = batcher.batch(items, &device);
        let began = Instant::now();
        let right = model.forward(batch.images).argmax(1).squeeze_dim::<1>(1).equal(batch.labels).int().sum();
        // Reading the count waits for the device.
        correct += right.into_scalar::<f64>();
        rates.push(images as f64 / began.elapsed().max(Duration::from_nanos(1)).as_secs_f64());
    }
    // The last batch may be short, and the first one warms up.
    if rates.len() > 2 {
        rates.pop();
        rates.remove(0);
    }
    rates.sort_by(f64::total_cmp);
    Evaluation {
        accuracy: correct / total.max(1) as f64,
        images_per_second: rates.get(rates.len() / 2).copied().unwrap_or(0.0),
    }
}
