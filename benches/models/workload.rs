//! The models that are timed: what one pass and one training step of each does.

use crate::gpt2::{D_MODEL, Gpt2Block};
use crate::harness::measure::{Rotation, Work};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::models::vit::{ViT, ViTConfig};
use burn_structured::nn::{Cost, Structure};
use clap::ValueEnum;

const CLASSES: usize = 10;
const LEARNING_RATE: f64 = 1e-3;
/// Inputs that take turns.
const INPUTS: usize = 4;

/// A model on inputs of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// The small vision transformer of the vit_cifar example: 128 features, 4 blocks, 64 images of 32x32
    VitSmall,
    /// The BLAST paper's ViT-S for CIFAR: 768 features, 8 blocks, 8 images of 32x32
    VitS,
    /// ViT-B/16: 768 features, 12 blocks, one image of 224x224
    VitB,
    /// One block of GPT-2 small on 512 tokens
    Gpt2Block,
}

/// A model of one structure, ready to run.
pub struct Prepared {
    /// Parameters of the whole model.
    pub params: usize,
    /// The replaced linear layers, for one token.
    pub cost: Cost,
    /// One pass without gradients.
    pub inference: Work<'static>,
    /// Forward, backward and a step of AdamW.
    pub training: Work<'static>,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// What goes through in one pass, and its unit.
    pub fn items(self) -> (usize, &'static str) {
        match self {
            Self::VitSmall => (64, "images"),
            Self::VitS => (8, "images"),
            Self::VitB => (1, "images"),
            Self::Gpt2Block => (512, "tokens"),
        }
    }

    /// The model with all its linear layers of `structure`.
    ///
    /// # Errors
    ///
    /// If the structure does not fit; the message says where.
    pub fn prepare(self, structure: Structure, device: &Device) -> Result<Prepared, String> {
        device.seed(0);
        let config = match self {
            Self::Gpt2Block => return prepare_block(self.items().0, structure, device),
            Self::VitSmall => ViTConfig::small(CLASSES),
            Self::VitS => ViTConfig::cifar_vit_s(CLASSES),
            Self::VitB => ViTConfig::vit_b(CLASSES),
        };
        prepare_vit(config.with_structure(structure), self.items().0, device)
    }
}

fn prepare_vit(config: ViTConfig, images: usize, device: &Device) -> Result<Prepared, String> {
    let shape = [images, config.channels, config.image_size, config.image_size];
    let tracked = device.clone().autodiff();
    let model = config.try_init(device).map_err(|error| error.to_string())?;
    let trained = config.try_init(&tracked).map_err(|error| error.to_string())?;
    let (params, cost) = (model.num_params(), model.cost().replaced);
    let targets = Tensor::<2>::full([images, CLASSES], 1.0 / CLASSES as f64, &tracked);
    let loss = move |model: &ViT, batch: Tensor<4>| {
        (log_softmax(model.forward(batch), 1) * targets.clone()).sum() / -(images as f64)
    };
    Ok(Prepared {
        params,
        cost,
        inference: inference(model, shape, device, |model: &ViT, images| model.forward(images)),
        training: training(trained, shape, &tracked, loss),
    })
}

fn prepare_block(tokens: usize, structure: Structure, device: &Device) -> Result<Prepared, String> {
    let tracked = device.clone().autodiff();
    let block = Gpt2Block::try_new(structure, device).map_err(|error| error.to_string())?;
    let trained = Gpt2Block::try_new(structure, &tracked).map_err(|error| error.to_string())?;
    let (params, cost, shape) = (block.num_params(), block.cost(), [1, tokens, D_MODEL]);
    let future = Gpt2Block::future(tokens, device);
    let tracked_future = Gpt2Block::future(tokens, &tracked);
    Ok(Prepared {
        params,
        cost,
        inference: inference(block, shape, device, move |block: &Gpt2Block, x| block.forward(x, future.clone())),
        training: training(trained, shape, &tracked, move |block: &Gpt2Block, x| {
            block.forward(x, tracked_future.clone()).powf_scalar(2.0).mean()
        }),
    })
}

fn inputs<const D: usize>(shape: [usize; D], device: &Device) -> Rotation<Tensor<D>> {
    Rotation::filling(INPUTS, 1, |_| Tensor::random(shape, Distribution::Normal(0.0, 1.0), device))
}

fn inference<M: Send + 'static, const D: usize, const O: usize>(
    model: M,
    shape: [usize; D],
    device: &Device,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<O> + Send + 'static,
) -> Work<'static> {
    let (mut inputs, device) = (inputs(shape, device), device.clone());
    Work::new(move || {
        let y = forward(&model, inputs.next().clone());
        device.sync().expect("the device answers");
        drop(std::hint::black_box(y));
    })
}

fn training<M: Module + 'static, const D: usize>(
    model: M,
    shape: [usize; D],
    device: &Device,
    loss: impl Fn(&M, Tensor<D>) -> Tensor<1> + Send + 'static,
) -> Work<'static> {
    let (mut inputs, device) = (inputs(shape, device), device.clone());
    let (mut model, mut optimizer) = (Some(model), AdamWConfig::new().init());
    Work::new(move || {
        let current = model.take().expect("put back by every step");
        let gradients = loss(&current, inputs.next().clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &current);
        model = Some(optimizer.step(LEARNING_RATE, current, gradients));
        device.sync().expect("the device answers");
    })
}
