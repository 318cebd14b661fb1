//! What one batch does: Burn's training and inference steps of the ViT.

use crate::data::ImageBatch;
use crate::vit::ViT;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};

/// Cross-entropy against soft targets, `-Σ target · log softmax(logits)`, averaged over the batch.
fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let batch = targets.dims()[0] as f64;
    (log_softmax(logits, 1) * targets).sum() / -batch
}

fn classify(model: &ViT, batch: ImageBatch) -> ClassificationOutput {
    let logits = model.forward(batch.images);
    let loss = soft_cross_entropy(logits.clone(), batch.targets);
    ClassificationOutput::new(loss, logits, batch.labels)
}

impl TrainStep for ViT {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<ClassificationOutput> {
        let output = classify(self, batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for ViT {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> ClassificationOutput {
        classify(self, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn soft_cross_entropy_is_the_definition() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[0.0f32, 0.0], [3.0f32.ln(), 0.0]], &device);
        let targets = Tensor::<2>::from_data([[0.5f32, 0.5], [1.0, 0.0]], &device);
        let loss = soft_cross_entropy(logits, targets).into_scalar::<f32>();
        let expected = (2.0f32.ln() - 0.75f32.ln()) / 2.0;
        assert!((loss - expected).abs() < 1e-6, "{loss} instead of {expected}");
    }
}
