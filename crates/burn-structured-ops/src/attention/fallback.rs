//! The backends that leave attention to Burn.

#[cfg(feature = "cube")]
impl super::AttentionBackend for burn_cubecl::CubeBackend {}

#[cfg(feature = "ndarray")]
impl super::AttentionBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl super::AttentionBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl super::AttentionBackend for burn::backend::Remote {}
