//! The backends that solve through plain Burn operations.

use super::SpdBackend;

#[cfg(feature = "ndarray")]
impl SpdBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl SpdBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl SpdBackend for burn::backend::Remote {}
