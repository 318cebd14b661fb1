//! Structured-matrix layers for [Burn](https://burn.dev): in the place of a dense `Linear`, with fewer parameters and FLOPs.
//!
//! ```
//! use burn_structured::burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured::nn::{Structure, StructuredLinearConfig};
//!
//! let device = Device::flex();
//! let structure: Structure = "blast:b=4,ratio=0.5".parse()?; // or low-rank:r=64, monarch, ss1:c=4, …
//! let layer = StructuredLinearConfig::new(768, 3072, structure).try_init(&device)?;
//! let x = Tensor::<3>::random([2, 16, 768], Distribution::Default, &device);
//! assert_eq!(layer.forward(x).dims(), [2, 16, 3072]);
//! println!("{layer}: {:.0} % of the dense FLOPs", 100.0 * layer.cost().flops_ratio());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate re-exports the workspace's parts, and the version of Burn that they are made for. The program `burn-structured` is the crate
//! `burn-structured-cli`.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `flex` (default), `ndarray`, `tch`, `remote`, `wgpu`, `vulkan`, `webgpu`, `metal`, `cuda`, `cuda-cpp`, `rocm`, `cpu` | execution backends, of which a `Device` selects one at run time |
//! | `fusion`, `autotune` | what Burn calls so, for CubeCL backends |
//! | `approximation` | layers from trained dense weights: `Structure::approximate`, and `from_dense` of every configuration |
//! | `checkpoint` | the module `checkpoint`: files of compressed models |
//! | `compress` | the module `compress`: factorization, calibration, plans and runs; with `approximation` and `checkpoint` |
//! | `models` | the module `models`: vision transformer, MLP-Mixer, diffusion transformer, click model, GPT-2, Llama, sentence encoder; with `checkpoint` |
//! | `tokenizers` | text in and out for the language models and the sentence encoder; with `models` |
//! | `train` | the module `train`: datasets, recipes, comparisons, and Burn's training stack; with `models` |
//!
//! The default is what layers on a CPU need: of the crates it compiles, all but a handful are Burn's own.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub use burn;
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

    #[doc = include_str!("../book/src/fine-tuning.md")]
    struct FineTuning;

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
