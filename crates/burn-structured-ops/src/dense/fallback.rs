//! The backends that leave dense products to Burn.

#[cfg(feature = "cube")]
impl super::DenseBackend for burn_cubecl::CubeBackend {}

#[cfg(feature = "ndarray")]
impl super::DenseBackend for burn::backend::NdArray {}

#[cfg(feature = "tch")]
impl super::DenseBackend for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl super::DenseBackend for burn::backend::Remote {}
