//! Structured-matrix layers for Burn: the same role as [`burn::nn::Linear`], with fewer parameters and operations.
//!
//! Every layer has a `Config` with `init` (panics like Burn's) and `try_init` (returns a [`StructureError`]), and with the feature
//! `approximation` `from_dense`, the layer nearest to a trained weight. It has a `forward` on `[.., d_input]`, `to_dense` for the matrix it stands for (`forward(x) == x · to_dense()ᵀ + bias`), and
//! `cost` for its parameters, FLOPs and bytes beside those of the dense layer.
//!
//! Models hold a [`StructuredLinear`], built from a [`Structure`], which has a text form for configuration files and
//! command lines:
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_nn::{Structure, StructuredLinearConfig};
//!
//! let device = Device::flex();
//! let structure: Structure = "blast:b=4,ratio=0.5".parse()?;
//! let layer = StructuredLinearConfig::new(64, 128, structure).try_init(&device)?;
//! let x = Tensor::<3>::random([2, 10, 64], Distribution::Default, &device);
//! assert_eq!(layer.forward(x).dims(), [2, 10, 128]);
//! assert!(layer.cost().params_ratio() < 0.52);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "approximation")]
mod approximation;
mod blast;
mod block_diagonal;
mod block_model;
mod blocks;
mod btt;
mod conversion;
mod cost;
mod dense;
mod display;
mod error;
mod factor;
mod gaudi;
mod initializer;
mod inputs;
mod int8;
mod kronecker;
mod low_rank;
mod mlp;
mod monarch;
mod orthogonal;
mod parameter;
mod pixelfly;
mod rank;
mod ss1;
mod structure;
mod structured;
mod two_factor;

#[cfg(feature = "approximation")]
pub use approximation::Approximation;
// For `burn-structured-compress`.
#[cfg(feature = "approximation")]
#[doc(hidden)]
pub use approximation::svd;
pub use blast::{BlastLinear, BlastLinearConfig};
pub use block_diagonal::{BlockCount, BlockDiagonalLinear, BlockDiagonalLinearConfig};
pub use block_model::BlockModel;
pub use blocks::Blocks;
pub use btt::{BttLinear, BttLinearConfig};
pub use burn_structured_ops::activation::Activation;
pub use burn_structured_ops::int8::{MAX as INT8_MAX, int8_tensor};
pub use burn_structured_ops::ss1::Ss1Strategy;
pub use burn_structured_ops::{BlastStrategy, Epilogue};
pub use cost::Cost;
pub use error::StructureError;
pub use factor::{Factor, learning_rate_groups};
pub use gaudi::{GaudiLinear, GaudiLinearConfig, WindowedLinear};
pub use inputs::{layer_paths, observe_inputs, on_pool};
pub use int8::{Int8BlastLinear, Int8BlockLinear, Int8Linear, Int8Ss1Linear, Int8TwoFactorLinear, quantize};
pub use kronecker::{KroneckerLinear, KroneckerLinearConfig};
pub use low_rank::{LowRankLinear, LowRankLinearConfig};
pub use mlp::{MlpActivation, StructuredMlp, StructuredMlpConfig, feed_forward};
pub use monarch::{MonarchLinear, MonarchLinearConfig};
pub use pixelfly::{PixelflyLinear, PixelflyLinearConfig};
pub use rank::Rank;
pub use ss1::{Ss1Hash, Ss1Linear, Ss1LinearConfig};
pub use structure::{Structure, StructureParseError};
pub use structured::{StructuredLinear, StructuredLinearConfig};
