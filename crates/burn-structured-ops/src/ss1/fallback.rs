//! The backends that run SS1 through plain Burn operations.

use super::Ss1Backend;

#[cfg(feature = "ndarray")]
impl Ss1Backend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl Ss1Backend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl Ss1Backend for burn::backend::Remote {}
