//! Batched GEMMs on CubeCL devices.
//!
//! The layers use Burn's matmul by default ([`burn_gemm`]), which chooses among tiled kernels, with tensor cores where the
//! device has them. It cannot be launched for every shape and type (a tile in f64 may exceed the shared memory), and software
//! Vulkan devices reject the shaders of some of its kernels. [`tiled_gemm`] runs where Burn's cannot: it loads at any
//! strides, needs no tensor cores and two small tiles in shared memory or none, and can read an operand through an SS1 fold
//! without writing it first. [`tensor_core`] is the fast GEMM for half precision.

pub(crate) mod fold;
mod kernel;
mod launch;
pub(crate) mod tensor_core;

pub(crate) use kernel::{Loading, Operand, Strides, StridesLaunch, Tile, add_product, load_strided};
pub(crate) use launch::{Gemm, burn_gemm, strides_of, tiled_gemm};
