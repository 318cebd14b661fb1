//! The backends that solve through plain Burn operations.

#[allow(unused_imports, reason = "Flex may be the only backend, with its own code")]
use super::SpdBackend;

#[cfg(all(feature = "flex", not(feature = "faer")))]
impl SpdBackend for burn::backend::Flex {}

#[cfg(feature = "ndarray")]
impl SpdBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl SpdBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl SpdBackend for burn::backend::Remote {}
