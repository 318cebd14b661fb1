//! What the native code of every operation on Flex shares: strided matrices and the GEMM on them, vectorised loops, and
//! the way from tensors to slices and back.

mod matrix;
mod simd;
mod split;
mod tensor;

pub(crate) use matrix::{Matrix, Output, Scalar, multiply, multiply_strided};
pub(crate) use simd::vectorized;
pub(crate) use split::{Split, fill_bias};
pub(crate) use tensor::{contiguous, dense_slice, from_native, in_native, to_native, with_native};
