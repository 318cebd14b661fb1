//! What the launch code of every operation on CubeCL devices shares.

use crate::gemm::tensor_core::has_tensor_cores;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::AddressType;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

#[cfg(all(test, any(feature = "wgpu", feature = "cpu", feature = "cuda")))]
pub(crate) mod testing;

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

/// An uninitialised, contiguous tensor on the device of `tensor`: what is allocated without asking for that may have its rows
/// padded, as on CUDA.
pub(crate) fn empty_like(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), shape, dtype)
}

/// How many of a GPU's processors work at the same time; one where that is not known.
pub(crate) fn multiprocessors(client: &Client) -> usize {
    client.properties().hardware.num_streaming_multiprocessors.unwrap_or(1).max(1) as usize
}

/// What a device allows a kernel to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Units that a cube can have.
    pub(crate) units: usize,
    /// Bytes of shared memory that a cube can have.
    pub(crate) shared_memory: usize,
    /// Whether units run in planes as wide as a GPU's.
    pub(crate) gpu: bool,
    /// Whether it is CubeCL's CPU.
    pub(crate) processor: bool,
    /// The types of which it multiplies tiles.
    pub(crate) tensor_cores: TensorCores,
}

/// The types of half precision that a device has tensor cores for, as far as kernels can fill their registers themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TensorCores {
    pub(crate) f16: bool,
    pub(crate) bf16: bool,
}

impl TensorCores {
    /// Whether they multiply `dtype`.
    pub(crate) fn multiply(self, dtype: DType) -> bool {
        match dtype {
            DType::F16 => self.f16,
            DType::BF16 => self.bf16,
            _ => false,
        }
    }
}

/// Units that a cube shares its work between on a processor, where its kernel has barriers. Each is a thread there that spins at
/// every barrier: with more of them than cores, until the scheduler takes the core away from it.
pub(crate) const PROCESSOR_UNITS: usize = 2;

/// Planes of fewer units than this are a processor's vectors, on which each unit works by itself.
const SMALLEST_GPU_PLANE: u32 = 8;

impl Limits {
    pub(crate) fn of(client: &Client) -> Self {
        let hardware = &client.properties().hardware;
        let processor = hardware.num_cpu_cores.is_some();
        Self {
            // The processor reports its threads, but any number of units may share one, and where there are barriers it starts
            // as many threads as a cube has units.
            units: if processor { usize::MAX } else { hardware.max_units_per_cube as usize },
            shared_memory: hardware.max_shared_memory_size,
            gpu: hardware.plane_size_max >= SMALLEST_GPU_PLANE,
            processor,
            tensor_cores: TensorCores {
                f16: has_tensor_cores(client, DType::F16),
                bf16: has_tensor_cores(client, DType::BF16),
            },
        }
    }
}

/// Bytes of one array of values in a unit's registers.
const MAX_REGISTER_BYTES: usize = 256;

/// Whether a unit can hold an array of `values` of `bytes` each.
///
/// Beyond about twice as many bytes, arrays private to a unit have been seen to race on Vulkan.
pub(crate) fn fits_registers(values: usize, bytes: usize) -> bool {
    values * bytes <= MAX_REGISTER_BYTES
}
