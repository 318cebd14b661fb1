//! The backends that run block-diagonal products through plain Burn operations.

use super::BlockDiagonalBackend;

#[cfg(feature = "ndarray")]
impl BlockDiagonalBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl BlockDiagonalBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl BlockDiagonalBackend for burn::backend::Remote {}
