//! Tensor operations behind the structured-matrix layers of `burn-structured`.
//!
//! A structured matrix stores a weight `W [m, n]` as a few small factors and multiplies by it without ever forming it.
//! Each operation family lives in its own folder and is a public function on [`burn::Tensor`]. Attention, BLAST, SS1 and block-diagonal
//! products, those with a dense factor and positive definite systems have a backend extension trait with a fallback in plain
//! Burn (also the reference of the tests), native code for the backends that have it, and a hand-written backward pass. Low-rank matrices are made of dense products, Monarch and Pixelfly of block-diagonal ones; Kronecker
//! products and Gaudi masks are a few of Burn's own operations.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_ops::blast_linear;
//!
//! let device = Device::flex();
//! let normal = Distribution::Normal(0.0, 1.0);
//! let x = Tensor::<2>::random([5, 12], normal, &device); //    [tokens, n]
//! let u = Tensor::<3>::random([2, 10, 4], normal, &device); // [b1, m / b1, r]
//! let s = Tensor::<3>::random([2, 3, 4], normal, &device); //  [b1, b2, r]
//! let v = Tensor::<3>::random([3, 4, 4], normal, &device); //  [b2, n / b2, r]
//! assert_eq!(blast_linear(x, u, s, v, None).dims(), [5, 20]);
//! ```
//!
//! This crate knows nothing of modules, configurations or files: those are in `burn-structured-nn` and above.
//!
//! # Features
//!
//! One feature per execution backend (`flex`, `ndarray`, `tch`, `remote`, `wgpu`, `vulkan`, `webgpu`, `metal`, `cuda`,
//! `rocm`, `cpu`), plus `fusion` and `autotune` for the CubeCL ones and `cuda-cpp`, which compiles CUDA kernels by NVRTC. `faer` solves
//! [positive definite systems](spd) on Flex by that library. A backend that is enabled in Burn but not here
//! panics, with the name of its feature, when an operation of this crate reaches it.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Serving the backends that Burn has deprecated is this crate's job; the extension macro names them in every impl.
#![cfg_attr(any(feature = "ndarray", feature = "tch"), allow(deprecated))]
// Rustdoc renders the formulas' indices; they are not links.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod activation;
pub mod attention;
mod bilinear;
pub mod blast;
pub mod block_diagonal;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub mod dense;
pub mod device;
mod dispatch;
mod epilogue;
#[cfg(feature = "fusion")]
mod fusion;
pub mod gaudi;
pub mod int8;
pub mod kronecker;
pub mod low_rank;
pub mod monarch;
mod operands;
mod optional_tensor;
pub mod pixelfly;
pub mod spd;
pub mod ss1;
mod tokens;

pub use blast::{BlastStrategy, blast_linear, blast_linear_with};
pub use epilogue::{Epilogue, EpilogueTensors};
pub use optional_tensor::OptionalTensor;

/// The book's page on kernels, whose code needs what this crate is built on.
#[cfg(all(doctest, feature = "cpu", feature = "fusion"))]
#[doc = include_str!("../../../book/src/own-kernel.md")]
struct KernelPage;
