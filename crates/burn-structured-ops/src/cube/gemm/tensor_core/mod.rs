//! Half-precision GEMM on tensor cores, by matrix instructions whose registers the kernel loads itself (`mma`, `ldmatrix`).
//!
//! Burn's matmul reaches a quarter of an H100's peak on these shapes, copies operands whose matrices are interleaved, and
//! leaves the bias to another pass. This kernel reads the blocks of `x` in place, in vectors, and adds the bias in its epilogue.

mod kernel;
mod launch;
mod mma_backend;
mod stage;
mod tiling;

pub(crate) use launch::{has_tensor_cores, on_tensor_cores, tensor_core_gemm};
pub(crate) use mma_backend::MmaBackend;
pub(crate) use tiling::{PLANE, TILE_COLS, TILE_K, TILE_ROWS, VECTOR, needs};
