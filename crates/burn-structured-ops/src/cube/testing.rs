//! Devices, operands and results for kernel tests.

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, TensorData};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

/// The CubeCL device of this name.
pub(crate) fn device(name: &str) -> CubeDevice {
    let backend = crate::device::compiled().into_iter().find(|backend| backend.name == name);
    let device = backend.expect("a backend of this build").device(0);
    let DispatchDevice::Cube(device) = device.as_dispatch() else { panic!("{device:?} is no CubeCL device") };
    device.clone()
}

/// Small whole numbers in f32, so that the order of sums does not matter; other ones for another `salt`.
pub(crate) fn whole_numbers(dims: [usize; 3], salt: usize, device: &CubeDevice) -> CubeTensor {
    let values: Vec<f32> = (0..dims.iter().product()).map(|index| ((index * salt) % 11) as f32 - 5.0).collect();
    CubeBackend::float_from_data(TensorData::new(values, dims), device)
}

/// The elements of a tensor of any float type.
pub(crate) fn read(tensor: CubeTensor) -> Vec<f32> {
    let data = burn::tensor::read_sync(CubeBackend::float_into_data(tensor)).expect("readable");
    data.convert_dtype(DType::F32).try_into_vec::<f32>().expect("f32 values")
}
