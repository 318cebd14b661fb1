//! Models whose linear layers each take a `Structure`: [`vit`], a vision transformer, [`mixer`], an MLP-Mixer, [`dit`], a diffusion
//! transformer, [`dlrm`], a click model, [`gpt2`] and [`llama`], language models, and [`bert`], a sentence encoder. Language models
//! read and write [`text`], and what they share is [`decoder`]. They and BERT are read from and written to checkpoints, compressed or
//! not, of the crate `burn-structured-checkpoint`.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use burn_structured_models::vit::ViTConfig;
//!
//! let device = Device::flex();
//! let model = ViTConfig::small(10).with_structure("blast:b=4,ratio=0.33".parse()?).init(&device);
//! assert_eq!(model.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 10]);
//! println!("{:.0} % of the dense FLOPs", 100.0 * model.cost().replaced.flops_ratio());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The feature `tokenizers` adds text in and out: Hugging Face's `tokenizer.json`, and GPT-2's byte-pair encoding.
//!
//! Modules and the names of their checkpoints only; training them is the crate `burn-structured-train`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bert;
mod cost;
pub mod decoder;
pub mod dit;
pub mod dlrm;
mod drop_path;
mod error;
pub mod gpt2;
mod layers;
pub mod llama;
pub mod mixer;
mod patches;
mod residual;
#[cfg(test)]
mod testing;
pub mod text;
pub mod vit;
mod weights;

pub use cost::ItemCost;
pub use error::ModelError;
pub use weights::WeightsError;
