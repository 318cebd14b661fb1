//! The backends that leave activations to Burn.

#[cfg(feature = "cube")]
impl super::ActivationBackend for burn_cubecl::CubeBackend {}

#[cfg(feature = "ndarray")]
impl super::ActivationBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl super::ActivationBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl super::ActivationBackend for burn::backend::Remote {}
