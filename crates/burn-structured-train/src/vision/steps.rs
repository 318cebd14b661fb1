//! What one batch does: Burn's training and inference steps of a classifier.

use super::ImageClassifier;
use crate::data::ImageBatch;
use burn::module::Module;
use burn::tensor::loss::cross_entropy_with_logits;
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};

/// A classifier as Burn's training loop takes it: this crate may implement Burn's traits only for a type of its own.
#[derive(Module, Debug)]
pub(super) struct Classifier<M: Module> {
    pub model: M,
}

impl<M: ImageClassifier> Classifier<M> {
    /// Cross-entropy against soft targets, `-Σ target · log softmax(logits)`, averaged over the batch.
    fn classify(&self, batch: ImageBatch) -> ClassificationOutput {
        let logits = self.model.forward(batch.images);
        let loss = cross_entropy_with_logits(logits.clone(), batch.targets);
        ClassificationOutput::new(loss, logits, batch.labels)
    }
}

impl<M: ImageClassifier> TrainStep for Classifier<M> {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<M: ImageClassifier> InferenceStep for Classifier<M> {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> ClassificationOutput {
        self.classify(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn cross_entropy_is_averaged_over_the_batch() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[0.0f32, 0.0], [3.0f32.ln(), 0.0]], &device);
        let targets = Tensor::<2>::from_data([[0.5f32, 0.5], [1.0, 0.0]], &device);
        let loss = cross_entropy_with_logits(logits, targets).into_scalar::<f32>();
        let expected = (2.0f32.ln() - 0.75f32.ln()) / 2.0;
        assert!((loss - expected).abs() < 1e-6, "{loss} instead of {expected}");
    }
}
