//! Products in half precision on tensor cores, by the matrix instructions whose registers a kernel fills itself.
//!
//! Burn's matmul has tensor cores too, but chooses among kernels that reach a quarter of what an H100 can do on these shapes, copies
//! operands whose matrices lie side by side, and leaves the bias to a pass of its own. The kernel here reads the blocks of `x`
//! as they lie, in vectors, and adds the bias before it stores.

mod cut;
mod kernel;
mod launch;
mod multiply;
mod stage;

pub(crate) use cut::{PLANE, TILE_COLS, TILE_ROWS, TILE_TERMS, VECTOR, needs};
pub(crate) use launch::{has_tensor_cores, on_tensor_cores, tensor_core_gemm};
pub(crate) use multiply::Multiply;
