//! What the launch code of every operation on CubeCL devices shares.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::AddressType;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

/// The type in which products of `dtype` are summed.
pub(crate) fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The index type that reaches every element of `tensors`.
pub(crate) fn address_type<const N: usize>(tensors: [&CubeTensor; N]) -> AddressType {
    tensors.into_iter().map(CubeTensor::required_address_type).max().unwrap_or_default()
}

/// An uninitialised, contiguous tensor on the device of `tensor`.
pub(crate) fn empty_like(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_dtype(tensor.client.clone(), tensor.device.clone(), shape, dtype)
}
