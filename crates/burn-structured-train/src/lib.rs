//! What the examples and benchmarks share: datasets, training recipes, comparisons, and devices by name.
//!
//! | module | what |
//! |---|---|
//! | [`data`] | CIFAR, image folders and a built-in synthetic set, as batches; text and token files, as windows |
//! | [`training`] | Burn's training loop in a folder that can be resumed |
//! | [`vision`] | training a vision transformer or an MLP-Mixer as a classifier |
//! | [`diffusion`] | training a diffusion transformer, and sampling images from it |
//! | [`clicks`] | training a click model on generated clicks |
//! | [`language`] | training, evaluating and retraining GPT-2 |
//! | [`comparison`] | several structures side by side: a table, JSON and a plot |
//! | [`similarity`] | how well a sentence encoder ranks the pairs of the STS benchmark |
//! | [`sentences`] | fine-tuning a sentence encoder on such pairs |
//! | [`device`] | devices by name, for command lines |
//!
//! ```
//! use burn_structured_models::vit::ViTConfig;
//! use burn_structured_train::data::synthetic;
//! use burn_structured_train::device;
//!
//! // What `--device` and `--dataset synthetic` of the examples are.
//! let device = device::from_name("flex")?;
//! let images = synthetic::generate(8, 2, 42);
//! let model = ViTConfig::small(images.classes.len()).with_structure("blast:b=4".parse()?).init(&device);
//! println!("{} parameters on one of {}", model.cost().params, device::available().join(", "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `tokenizers` compares sentence encoders on text, `frechet` measures the Fréchet distance between images.
//!
//! # What comes from Burn, and what does not
//!
//! The loop, the metrics, the dashboard, interruption, checkpoints (complete or absent, synced before they are renamed), the
//! schedules and the data loader are Burn's. These are not, as of Burn 0.22.1:
//!
//! - `CifarDataset` of `burn-dataset` reads a whole download into memory without a checksum or a limit, panics without a
//!   connection, and cannot be given a folder; [`data::download`] and [`data::cifar`] return errors instead.
//! - `ImageFolderDataset` panics on a file that does not decode, gives images of different sizes, and numbers the classes of
//!   each split on its own; [`data::folder`] returns an error, resizes, and uses the numbers of the training split for both.
//! - The transforms of `burn-dataset` select by index; none keeps the proportions of the classes, as
//!   [`data::Images::limit`] does. None changes pixels, as [`data::Augmentation`] does.
//! - `CliMetricsRenderer` of `burn-train` prints a debug representation to standard output at every iteration;
//!   a renderer prints one line for a pass over the data, to standard error.
//! - `IterationSpeedMetric` counts iterations, the first ones of a run included; a [`vision::RunResult`] has the images a
//!   second of the median pass.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clicks;
pub mod comparison;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod language;
pub mod sentences;
pub mod similarity;
pub mod training;
pub mod vision;

mod files;
