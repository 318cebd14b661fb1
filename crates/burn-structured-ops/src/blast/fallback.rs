//! The backends that run BLAST through plain Burn operations.

use super::BlastBackend;

#[cfg(feature = "ndarray")]
impl BlastBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl BlastBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl BlastBackend for burn::backend::Remote {}
