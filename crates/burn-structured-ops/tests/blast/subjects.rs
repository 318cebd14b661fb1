//! The backends under test.

use crate::case::Sizes;
use burn::backend::DTypeUsage;
use burn::tensor::{DType, TensorData};
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastBackend;

/// How much of the table a backend goes through. A product on a software GPU takes seconds, on a processor microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every shape, layout, dtype and strategy.
    Native,
    /// Kernels without fusion: the shapes at which they change (one token, every vector size, several chunks).
    Kernels,
    /// The same kernels behind fusion: one shape.
    Fused,
}

/// One way to run: a backend and a device of it.
pub struct Subject<B: BlastBackend> {
    pub name: String,
    pub device: B::Device,
    pub scope: Scope,
}

/// A promise about BLAST products, to be kept by every backend.
pub trait Promise {
    fn check<B: BlastBackend>(&self, subject: &Subject<B>);
}

/// Checks a promise on every backend that is compiled in.
pub fn every_backend(promise: &impl Promise) {
    #[cfg(feature = "flex")]
    promise.check(&Subject::<burn::backend::Flex> {
        name: "flex".into(),
        device: Default::default(),
        scope: Scope::Native,
    });
    #[cfg(feature = "ndarray")]
    promise.check(&Subject::<burn::backend::NdArray> {
        name: "ndarray".into(),
        device: Default::default(),
        scope: Scope::Native,
    });
    #[cfg(feature = "cube")]
    for (name, device) in cube_devices() {
        promise.check(&Subject::<burn_cubecl::CubeBackend> {
            name: name.into(),
            device: device.clone(),
            scope: Scope::Kernels,
        });
        #[cfg(feature = "fusion")]
        promise.check(&Subject::<burn_cubecl::Cube> {
            name: format!("{name} with fusion"),
            device,
            scope: Scope::Fused,
        });
    }
}

impl<B: BlastBackend> Subject<B> {
    /// The shapes to try, each with a number to seed its operands with.
    pub fn shapes(&self) -> impl Iterator<Item = (u64, Sizes)> {
        let chosen: &[u64] = match self.scope {
            Scope::Native => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            Scope::Kernels => &[1, Self::USUAL_SHAPE, 10, 11],
            Scope::Fused => &[Self::USUAL_SHAPE],
        };
        (0..).zip(crate::case::shapes()).filter(move |(index, _)| chosen.contains(index))
    }

    /// The shapes to try a whole product on, matmuls included.
    pub fn product_shapes(&self) -> impl Iterator<Item = (u64, Sizes)> {
        let native = self.scope == Scope::Native;
        self.shapes().filter(move |(index, _)| native || [1, Self::USUAL_SHAPE].contains(index))
    }

    /// Several blocks, vectors and tokens, and no size that is a tile's.
    pub const USUAL_SHAPE: u64 = 8;

    /// The strategies that take different paths here; plain Burn is compared where it is cheap.
    pub fn strategies(&self) -> &'static [BlastStrategy] {
        match self.scope {
            Scope::Native => {
                &[BlastStrategy::Auto, BlastStrategy::Reference, BlastStrategy::Staged, BlastStrategy::Blocked]
            }
            Scope::Kernels | Scope::Fused => &[BlastStrategy::Auto],
        }
    }

    /// The float types in which the device's own batched matmul, on which everything here rests, is right.
    ///
    /// That is Burn's to promise, not ours, and some drivers fail it: SwiftShader returns zeros for a kernel that it cannot
    /// compile. What is left out is said; the kernels that need no matmul are tested there all the same.
    pub fn product_dtypes(&self) -> Vec<DType> {
        let right = |dtype: &DType| {
            let sound = matmul_is_right::<B>(&self.device, *dtype);
            if !sound {
                eprintln!("{}: Burn's own {dtype:?} matmul is wrong on this device; BLAST products skipped", self.name);
            }
            sound
        };
        self.dtypes().into_iter().filter(right).collect()
    }

    /// The float types that the device computes with.
    pub fn dtypes(&self) -> Vec<DType> {
        [DType::F64, DType::F32, DType::F16, DType::BF16]
            .into_iter()
            .filter(|dtype| B::dtype_usage(&self.device, *dtype).is_superset(DTypeUsage::general()))
            .collect()
    }
}

#[cfg(feature = "cube")]
#[allow(clippy::vec_init_then_push, reason = "each device is there by its own feature")]
fn cube_devices() -> Vec<(&'static str, burn_cubecl::CubeDevice)> {
    #[allow(unused_mut, reason = "a build may have the shared code without any of the devices below")]
    let mut devices = Vec::new();
    #[cfg(feature = "cpu")]
    devices.push(("cubecl-cpu", burn_cubecl::CubeDevice::Cpu(Default::default())));
    #[cfg(feature = "vulkan")]
    devices.push(("vulkan", cube_device(&burn::tensor::Device::vulkan(Default::default()))));
    #[cfg(all(feature = "wgpu", not(feature = "vulkan"), not(feature = "metal")))]
    devices.push(("wgpu", cube_device(&burn::tensor::Device::wgpu(Default::default()))));
    #[cfg(feature = "metal")]
    devices.push(("metal", cube_device(&burn::tensor::Device::metal(Default::default()))));
    #[cfg(feature = "cuda")]
    devices.push(("cuda", cube_device(&burn::tensor::Device::cuda(0))));
    #[cfg(feature = "rocm")]
    devices.push(("rocm", cube_device(&burn::tensor::Device::rocm(0))));
    devices
}

#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "webgpu",
    feature = "cuda",
    feature = "rocm"
))]
fn cube_device(device: &burn::tensor::Device) -> burn_cubecl::CubeDevice {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => device.clone(),
        other => panic!("{other:?} is no CubeCL device"),
    }
}

/// Compares batched products `[2, m, k] × [2, k, n]` of small whole numbers, which every float type holds exactly.
fn matmul_is_right<B: BlastBackend>(device: &B::Device, dtype: DType) -> bool {
    [[17, 8, 48], [5, 3, 4], [1, 7, 2]].into_iter().all(|[m, k, n]| {
        let upload = |rows: usize, cols: usize, salt: usize| {
            let values: Vec<f64> = (0..2 * rows * cols).map(|index| ((index * salt) % 7) as f64 - 3.0).collect();
            (values.clone(), TensorData::new(values, [2, rows, cols]).convert_dtype(dtype))
        };
        let ((a, lhs), (b, rhs)) = (upload(m, k, 5), upload(k, n, 3));
        let product = B::float_matmul(B::float_from_data(lhs, device), B::float_from_data(rhs, device));
        let actual = crate::run::read::<B>(product);
        (0..2 * m * n).all(|index| {
            let (batch, row, col) = (index / (m * n), index / n % m, index % n);
            let expected: f64 = (0..k).map(|i| a[(batch * m + row) * k + i] * b[(batch * k + i) * n + col]).sum();
            actual[index] == expected
        })
    })
}
