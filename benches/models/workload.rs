//! The models that are timed, their structures and passes.

use crate::harness::measure::Work;
use crate::images::{ImageConfig, Images};
use crate::language::{Block, Language};
use crate::sentences::Sentences;
use burn::tensor::Device;
use burn_structured::models::mixer::MixerConfig;
use burn_structured::models::vit::ViTConfig;
use burn_structured::nn::{Cost, Structure, StructureError};
use clap::ValueEnum;
use std::path::PathBuf;

const CLASSES: usize = 10;

/// A model on inputs of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// The sentence encoder all-MiniLM-L6-v2: 384 features, 6 layers; 128 sentences, tokenizing included
    Minilm,
    /// The small vision transformer of the vit_cifar example: 128 features, 4 blocks, 64 images of 32x32
    VitSmall,
    /// The BLAST paper's ViT-S for CIFAR: 768 features, 8 blocks, 8 images of 32x32
    VitS,
    /// ViT-S/16: 384 features, 12 blocks, 8 images of 224x224
    #[value(name = "vit-s-224")]
    VitS224,
    /// ViT-B/16: 768 features, 12 blocks, 4 images of 224x224
    VitB,
    /// Mixer-S with patches of 4 for CIFAR: 512 features, 8 blocks, 16 images of 32x32
    MixerS,
    /// GPT-2 small, batch 1: a prompt of 512 tokens, then 32 one by one over the KV cache
    Gpt2,
    /// One block of GPT-2 small on 512 tokens
    Gpt2Block,
}

/// What is timed of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pass {
    /// The output
    Inference,
    /// Forward, backward and a step of AdamW on random data
    Training,
    /// Sentences one at a time
    #[value(name = "batch-1")]
    Batch1,
    /// Sentences of similar lengths in batches of 8
    #[value(name = "batch-8")]
    Batch8,
    /// Sentences of similar lengths in batches of 32
    #[value(name = "batch-32")]
    Batch32,
    /// The prompt, up to the first new token
    Prefill,
    /// New tokens one by one
    Decode,
}

/// Weights and inputs that are not random, and sizes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of the dense sentence encoder.
    pub minilm: Option<PathBuf>,
    /// Folders of the same encoder compressed.
    pub compressed: Vec<PathBuf>,
    /// Every model with int8 weights as well.
    pub int8: bool,
    /// A file of sentences.
    pub sentences: Option<PathBuf>,
    /// The smallest sizes, to see that the program works.
    pub tiny: bool,
}

/// A model of one structure.
pub trait Model {
    /// Parameters of the whole model.
    fn params(&self) -> usize;

    /// The replaced linear layers, for one token.
    fn cost(&self) -> Cost;

    /// The same with int8 weights.
    ///
    /// # Errors
    ///
    /// If a structure has no int8 form.
    fn quantized(&self) -> Result<Box<dyn Model>, StructureError>;

    /// What goes through in one turn of `pass`.
    fn items(&self, pass: Pass) -> usize;

    /// `pass`, ready to run.
    ///
    /// # Errors
    ///
    /// If the model cannot be built on the device; the message says why.
    fn work(&self, pass: Pass) -> Result<Work<'static>, String>;
}

/// A model of a [`Workload`].
pub struct NamedModel {
    /// What its rows are called: its structure or its folder, and `int8`.
    pub name: String,
    /// Whether it can be trained, which integers cannot.
    pub is_float: bool,
    /// Parameters of the whole model, scales of integers aside.
    pub params: usize,
    /// The model.
    pub model: Box<dyn Model>,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        name(&self)
    }

    /// The passes, in groups that take turns; a model is in memory during the passes of its group.
    pub fn passes(self) -> &'static [&'static [Pass]] {
        match self {
            Self::Minilm => &[&[Pass::Batch1, Pass::Batch8, Pass::Batch32]],
            Self::Gpt2 => &[&[Pass::Prefill, Pass::Decode]],
            _ => &[&[Pass::Inference], &[Pass::Training]],
        }
    }

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Minilm => "sentences",
            Self::Gpt2 | Self::Gpt2Block => "tokens",
            _ => "images",
        }
    }

    /// The structures that are measured without flags: half of the weights, of the vision transformers a third as well.
    pub fn structures(self) -> Vec<Structure> {
        let names: &[&str] = match self {
            Self::Minilm | Self::Gpt2 | Self::Gpt2Block => &["dense", "blast:b=6,ratio=0.5", "low-rank:ratio=0.5"],
            _ => &["dense", "blast:b=4,ratio=0.5", "blast:b=4,ratio=0.33", "low-rank:ratio=0.5"],
        };
        names.iter().map(|text| text.parse().expect("a structure")).collect()
    }

    /// A model of each structure, and of each compressed encoder that has the cost of none of them, with the names of their rows.
    ///
    /// # Errors
    ///
    /// If a structure does not fit, or a file cannot be read; the message says which.
    pub fn load(self, structures: &[Structure], options: &Options, device: &Device) -> Result<Vec<NamedModel>, String> {
        let mut models = Vec::new();
        for structure in structures {
            let model = self.of_structure(*structure, options, device);
            let model = model.map_err(|error| format!("{}, {structure}: {error}", self.name()))?;
            models.push(NamedModel { name: structure.to_string(), is_float: true, params: model.params(), model });
        }
        if self == Self::Minilm {
            for folder in &options.compressed {
                let model = Sentences::from_folder(folder, options, device)?;
                if models.iter().all(|other| other.model.cost() != model.cost()) {
                    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    let params = model.params();
                    models.push(NamedModel { name, is_float: true, params, model: Box::new(model) });
                }
            }
        }
        if !options.int8 {
            return Ok(models);
        }
        let mut with_int8 = Vec::new();
        for float in models {
            let small = float.model.quantized().map_err(|error| format!("{}, {}: {error}", self.name(), float.name))?;
            let (name, params) = (format!("{}, int8", float.name), float.params);
            with_int8.extend([float, NamedModel { name, is_float: false, params, model: small }]);
        }
        Ok(with_int8)
    }

    fn of_structure(self, structure: Structure, options: &Options, device: &Device) -> Result<Box<dyn Model>, String> {
        device.seed(0);
        let vit = |config: ViTConfig| config.with_structure(structure);
        match self {
            Self::Minilm => Ok(Box::new(Sentences::try_new(structure, options, device)?)),
            Self::VitSmall => images(vit(ViTConfig::small(CLASSES)), 64, options, device),
            Self::VitS => images(vit(ViTConfig::cifar_vit_s(CLASSES)), 8, options, device),
            Self::VitS224 => images(vit(ViTConfig::vit_b(CLASSES).with_d_model(384).with_heads(6)), 8, options, device),
            Self::VitB => images(vit(ViTConfig::vit_b(CLASSES)), 4, options, device),
            Self::MixerS => images(MixerConfig::cifar_mixer_s(CLASSES).with_structure(structure), 16, options, device),
            Self::Gpt2 => Ok(Box::new(Language::try_new(structure, options.tiny, device)?)),
            Self::Gpt2Block => Ok(Box::new(Block::try_new(structure, options.tiny, device)?)),
        }
    }
}

fn images<C: ImageConfig>(
    config: C,
    images: usize,
    options: &Options,
    device: &Device,
) -> Result<Box<dyn Model>, String> {
    let (config, images) = if options.tiny { (config.tiny(), 2) } else { (config, images) };
    Ok(Box::new(Images::try_new(config, images, device)?))
}

/// A value as it is on the command line.
pub fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
