//! Image classifiers on random images.

use crate::harness::measure::Work;
use crate::passes::{inference, training};
use crate::workload::{Model, Pass};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use burn_structured::models::mixer::{Mixer, MixerConfig};
use burn_structured::models::vit::{ViT, ViTConfig};
use burn_structured::nn::{Cost, StructureError};
use burn_structured::train::vision::{ClassifierConfig, ImageClassifier};

/// The settings of a classifier that is timed.
pub trait ImageConfig: ClassifierConfig + 'static {
    /// The same model with the smallest sizes.
    fn tiny(self) -> Self;

    /// Channels, height and width of an image, and classes.
    fn sizes(&self) -> [usize; 4];

    /// The replaced layers, for one token of a vision transformer and one image of a Mixer, whose bytes are not counted.
    fn cost(model: &Self::Model) -> Cost;

    /// The model with int8 weights.
    ///
    /// # Errors
    ///
    /// If a structure has no int8 form.
    fn quantize(model: Self::Model) -> Result<Self::Model, StructureError>;
}

impl ImageConfig for ViTConfig {
    fn tiny(self) -> Self {
        self.with_image_size(8).with_patch_size(4).with_d_model(16).with_depth(1).with_heads(2)
    }

    fn sizes(&self) -> [usize; 4] {
        [self.channels, self.image_size, self.image_size, self.classes]
    }

    fn cost(model: &ViT) -> Cost {
        model.cost().replaced
    }

    fn quantize(model: ViT) -> Result<ViT, StructureError> {
        model.quantize()
    }
}

impl ImageConfig for MixerConfig {
    fn tiny(self) -> Self {
        self.with_image_size(16).with_patch_size(4).with_d_model(16).with_depth(1).with_token_ratio(1.0)
    }

    fn sizes(&self) -> [usize; 4] {
        [self.channels, self.image_size, self.image_size, self.classes]
    }

    fn cost(model: &Mixer) -> Cost {
        let cost = model.cost();
        Cost {
            params: cost.replaced_params,
            flops_per_token: cost.replaced_flops,
            bytes_per_token: 0,
            dense_params: cost.dense_replaced_params,
            dense_flops_per_token: cost.dense_replaced_flops,
        }
    }

    fn quantize(model: Mixer) -> Result<Mixer, StructureError> {
        model.quantize()
    }
}

/// A classifier and the size of its batches.
pub struct Images<C: ImageConfig> {
    config: C,
    model: C::Model,
    images: usize,
    device: Device,
}

impl<C: ImageConfig> Images<C> {
    /// The model with random weights.
    ///
    /// # Errors
    ///
    /// If the structure does not fit; the message says where.
    pub fn try_new(config: C, images: usize, device: &Device) -> Result<Self, String> {
        let model = config.try_init(device).map_err(|error| error.to_string())?;
        Ok(Self { config, model, images, device: device.clone() })
    }
}

impl<C: ImageConfig> Model for Images<C> {
    fn params(&self) -> usize {
        self.model.num_params()
    }

    fn cost(&self) -> Cost {
        C::cost(&self.model)
    }

    fn quantized(&self) -> Result<Box<dyn Model>, StructureError> {
        let (config, model, device) = (self.config.clone(), C::quantize(self.model.clone())?, self.device.clone());
        Ok(Box::new(Self { config, model, images: self.images, device }))
    }

    fn items(&self, _: Pass) -> usize {
        self.images
    }

    fn work(&self, pass: Pass) -> Result<Work<'static>, String> {
        let ([channels, height, width, classes], images) = (self.config.sizes(), self.images);
        let shape = [images, channels, height, width];
        if pass == Pass::Inference {
            let model = self.model.clone();
            return Ok(inference(model, shape, &self.device, |model: &C::Model, images| model.forward(images)));
        }
        let tracked = self.device.clone().autodiff();
        let model = self.config.try_init(&tracked).map_err(|error| error.to_string())?;
        let targets = Tensor::<2>::full([images, classes], 1.0 / classes as f64, &tracked);
        Ok(training(model, shape, &tracked, move |model: &C::Model, batch: Tensor<4>| {
            (log_softmax(model.forward(batch), 1) * targets.clone()).sum() / -(images as f64)
        }))
    }
}
