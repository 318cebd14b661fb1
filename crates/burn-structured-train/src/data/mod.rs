//! Images and text for training: where they come from, and how they become batches.
//!
//! Text and its tokens are in [`tokens`], generated clicks in [`clicks`]. For images, a source ([`cifar`], [`folder`], [`synthetic`]) gives an [`ImageSet`];
//! [`download`] finds or fetches CIFAR; an [`ImageBatcher`] turns items into normalised, augmented [`ImageBatch`]es.
//! Everything that touches a file, the network or a user's setting reports a [`DataError`].
//!
//! ```
//! use burn::data::dataloader::DataLoaderBuilder;
//! use burn_structured_train::data::{Augmentation, ImageBatcher, synthetic};
//!
//! let set = synthetic::generate(4, 2, 42);
//! let augmentation = Augmentation { pad: 4, flip: true, ..Augmentation::default() };
//! let loader = DataLoaderBuilder::new(ImageBatcher::training(&set, augmentation, 42)?)
//!     .batch_size(8)
//!     .shuffle(42)
//!     .build(set.train);
//! let batch = loader.iter().next().expect("40 images")?;
//! assert_eq!(batch.images.dims(), [8, 3, 32, 32]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cifar;
pub mod clicks;
pub mod download;
pub mod folder;
pub mod synthetic;
pub mod tokens;

mod augment;
mod batch;
mod error;
mod images;
mod normalization;
mod unpack;

pub use batch::{Augmentation, ImageBatch, ImageBatcher};
pub use cifar::CifarKind;
pub use error::DataError;
pub use images::{ImageItem, ImageSet, Images};
pub use normalization::Normalization;
