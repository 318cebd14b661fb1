//! What the native code of every operation on Flex shares: strided matrices and the GEMM on them, products out of packed
//! panels and with factors that are read once as they lie, vectorised loops, threads that stay together for all stages of
//! a product, and the way from tensors to slices and back.

mod crew;
mod matrix;
pub(crate) mod panel;
mod scalar;
mod simd;
mod split;
pub(crate) mod streaming;
mod tensor;

pub(crate) use crew::Crew;
pub(crate) use matrix::{Matrix, Output, multiply};
pub(crate) use scalar::{LINE, Scalar, Slot, portions};
pub(crate) use simd::{load, load_at, store, store_at, vectorized};
pub(crate) use split::{Split, fill_bias};
pub(crate) use tensor::{contiguous, dense_slice, from_native, in_native, to_native, with_native, with_rows};

/// Tokens from which packing a factor pays that is used in one product only.
pub(crate) const MIN_PANEL_TOKENS: usize = 6;
