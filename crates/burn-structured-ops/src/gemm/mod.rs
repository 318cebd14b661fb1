//! Batched matrix products of our own on CubeCL devices.
//!
//! Burn's matmul picks among tiled kernels, with tensor cores where there are some, and is what the layers use by
//! default. It cannot be launched for every shape and type on every device (a tile in f64 may exceed the shared memory),
//! software Vulkan devices reject the shader of some of its kernels, and it reads its operands as they lie in memory. The
//! kernels here ask for little: loads at any strides, in vectors where these allow, no tensor cores, two small tiles in
//! shared memory or none at all. They are the way out when Burn's cannot run, and they can read an operand through a fold
//! without writing it first. One more, in `tensor_core`, asks for much, and is for half precision what Burn's is not: fast.

pub(crate) mod fold;
mod kernel;
mod launch;
pub(crate) mod tensor_core;

pub(crate) use kernel::{Loading, Operand, Strides, StridesLaunch, Tile, add_product, load_strided};
pub(crate) use launch::{Gemm, burn_gemm, strides_of, tiled_gemm};
