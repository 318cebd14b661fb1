//! Launch helpers and GEMMs for CubeCL devices, shared by all operations.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{AddressType, CubeCount, CubeDim};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use gemm::tensor_core::has_tensor_cores;

pub(crate) mod gemm;
#[cfg(all(test, any(feature = "wgpu", feature = "cpu", feature = "cuda")))]
pub(crate) mod testing;

/// The type in which products of `dtype` are summed.
pub(crate) fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// `dtype`, and the type in which its products are summed, as kernels are instantiated with them.
pub(crate) fn kernel_dtypes(dtype: DType) -> [ElemType; 2] {
    [dtype, accumulator(dtype)].map(dtype_to_storage_type)
}

/// A grid of `cubes` cubes with `units` units each. It may have more cubes, which kernels end at once.
pub(crate) fn grid_of_cubes(client: &Client, cubes: usize, units: usize) -> (CubeCount, CubeDim) {
    let cube_dim = CubeDim::new_1d(units as u32);
    (calculate_cube_count_elemwise(client, cubes * units, cube_dim), cube_dim)
}

/// A grid of `units` units that work by themselves. It may have more units, which kernels end at once.
pub(crate) fn grid_of_units(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let cube_dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, cube_dim), cube_dim)
}

/// The index type that reaches every element of `tensors`.
pub(crate) fn address_type<const N: usize>(tensors: [&CubeTensor; N]) -> AddressType {
    tensors.into_iter().map(CubeTensor::required_address_type).max().unwrap_or_default()
}

/// An uninitialised, contiguous tensor on the device of `tensor`. By default rows may be padded, as on CUDA.
pub(crate) fn empty_like(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), shape, dtype)
}

/// How many of a GPU's processors work at the same time; one where that is not known.
pub(crate) fn multiprocessors(client: &Client) -> usize {
    client.properties().hardware.num_streaming_multiprocessors.unwrap_or(1).max(1) as usize
}

/// The limits of a device.
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
    /// The types that its tensor cores support.
    pub(crate) tensor_cores: TensorCores,
}

/// The half-precision types that a device has tensor cores for, with registers that kernels can load themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TensorCores {
    pub(crate) f16: bool,
    pub(crate) bf16: bool,
}

impl TensorCores {
    /// Whether they multiply tiles of `dtype`.
    pub(crate) fn support(self, dtype: DType) -> bool {
        match dtype {
            DType::F16 => self.f16,
            DType::BF16 => self.bf16,
            _ => false,
        }
    }
}

/// Units of a cube on a CPU, for kernels with barriers. Each unit is a thread that spins at every barrier, and with more threads
/// than cores it spins until the scheduler preempts it.
pub(crate) const PROCESSOR_UNITS: usize = 2;

/// Smaller planes are the vectors of a CPU.
const SMALLEST_GPU_PLANE: u32 = 8;

impl Limits {
    pub(crate) fn of(client: &Client) -> Self {
        let hardware = &client.properties().hardware;
        let processor = hardware.num_cpu_cores.is_some();
        Self {
            // A CPU reports its threads, but any number of units may share one, and for a kernel with barriers it starts as many
            // threads as a cube has units.
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
