//! Structured-matrix layers for [Burn](https://burn.dev): in the place of a dense `Linear`, with fewer parameters and FLOPs.
//!
//! This crate re-exports the workspace's parts. Features choose the execution backends; `checkpoint` adds the files of compressed
//! models, `compress` what turns trained dense weights into structured ones, `models` a vision transformer, GPT-2, Llama and a
//! sentence encoder, and `train` the datasets, recipes and comparisons. The program `burn-structured` is the crate `burn-structured-cli`.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured::nn::{BlastLinearConfig, Blocks, Rank};
//!
//! let device = Device::flex();
//! let layer = BlastLinearConfig::new(768, 3072)
//!     .with_blocks(Blocks::Square(4))
//!     .with_rank(Rank::Ratio(0.5))
//!     .init(&device);
//! let x = Tensor::<3>::random([2, 16, 768], Distribution::Default, &device);
//! assert_eq!(layer.forward(x).dims(), [2, 16, 3072]);
//! println!("{layer}: {:.0} % of the dense FLOPs", 100.0 * layer.cost().flops_ratio());
//! ```

#[cfg(feature = "checkpoint")]
pub use burn_structured_checkpoint as checkpoint;
#[cfg(feature = "compress")]
pub use burn_structured_compress as compress;
#[cfg(feature = "models")]
pub use burn_structured_models as models;
pub use burn_structured_nn as nn;
pub use burn_structured_ops as ops;
#[cfg(feature = "train")]
pub use burn_structured_train as train;

/// The code of the READMEs and the book compiles and runs.
#[cfg(all(doctest, feature = "compress", feature = "models"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../book/src/getting-started.md")]
    struct GettingStarted;

    #[doc = include_str!("../book/src/your-project.md")]
    struct YourProject;

    #[doc = include_str!("../book/src/from-pytorch.md")]
    struct FromPytorch;

    #[doc = include_str!("../book/src/own-structure.md")]
    struct OwnStructure;

    #[doc = include_str!("../book/src/int8.md")]
    struct Int8;

    #[doc = include_str!("../book/src/first-layer.md")]
    struct FirstLayer;

    #[doc = include_str!("../book/src/blocks.md")]
    struct Blocks;

    #[doc = include_str!("../book/src/structures.md")]
    struct Structures;

    #[doc = include_str!("../book/src/approximation.md")]
    struct Approximation;

    #[doc = include_str!("../book/src/factorization.md")]
    struct Factorization;

    #[doc = include_str!("../book/src/calibration.md")]
    struct Calibration;

    #[doc = include_str!("../book/src/compress.md")]
    struct Compress;

    #[doc = include_str!("../book/src/vision-transformer.md")]
    struct VisionTransformer;

    #[doc = include_str!("../book/src/mixer.md")]
    struct Mixer;

    #[doc = include_str!("../book/src/dit.md")]
    struct Dit;

    #[doc = include_str!("../book/src/dlrm.md")]
    struct Dlrm;

    #[doc = include_str!("../book/src/gpt2.md")]
    struct Gpt2;

    #[doc = include_str!("../book/src/llama.md")]
    struct Llama;

    #[doc = include_str!("../crates/burn-structured-ops/README.md")]
    struct OpsReadme;

    #[doc = include_str!("../crates/burn-structured-nn/README.md")]
    struct NnReadme;

    #[doc = include_str!("../crates/burn-structured-checkpoint/README.md")]
    struct CheckpointReadme;

    #[doc = include_str!("../crates/burn-structured-compress/README.md")]
    struct CompressReadme;

    #[doc = include_str!("../crates/burn-structured-models/README.md")]
    struct ModelsReadme;

    #[cfg(feature = "train")]
    #[doc = include_str!("../crates/burn-structured-train/README.md")]
    struct TrainReadme;
}
