//! Vision transformers on random images.

use crate::harness::measure::Work;
use crate::passes::{inference, training};
use crate::workload::{Model, Pass};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use burn_structured::models::vit::{ViT, ViTConfig};
use burn_structured::nn::{Cost, StructureError};

/// A vision transformer and the size of its batches.
pub struct Images {
    config: ViTConfig,
    model: ViT,
    images: usize,
    device: Device,
}

impl Images {
    /// The model with random weights.
    ///
    /// # Errors
    ///
    /// If the structure does not fit; the message says where.
    pub fn try_new(config: ViTConfig, images: usize, device: &Device) -> Result<Self, String> {
        let model = config.try_init(device).map_err(|error| error.to_string())?;
        Ok(Self { config, model, images, device: device.clone() })
    }
}

impl Model for Images {
    fn params(&self) -> usize {
        self.model.num_params()
    }

    fn cost(&self) -> Cost {
        self.model.cost().replaced
    }

    fn quantized(&self) -> Result<Box<dyn Model>, StructureError> {
        let (config, model, device) = (self.config.clone(), self.model.clone().quantize()?, self.device.clone());
        Ok(Box::new(Self { config, model, images: self.images, device }))
    }

    fn items(&self, _: Pass) -> usize {
        self.images
    }

    fn work(&self, pass: Pass) -> Result<Work<'static>, String> {
        let (&ViTConfig { channels, image_size, classes, .. }, images) = (&self.config, self.images);
        let shape = [images, channels, image_size, image_size];
        if pass == Pass::Inference {
            return Ok(inference(self.model.clone(), shape, &self.device, |model: &ViT, images| model.forward(images)));
        }
        let tracked = self.device.clone().autodiff();
        let model = self.config.try_init(&tracked).map_err(|error| error.to_string())?;
        let targets = Tensor::<2>::full([images, classes], 1.0 / classes as f64, &tracked);
        Ok(training(model, shape, &tracked, move |model: &ViT, batch: Tensor<4>| {
            (log_softmax(model.forward(batch), 1) * targets.clone()).sum() / -(images as f64)
        }))
    }
}
