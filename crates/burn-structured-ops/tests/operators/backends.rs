//! The backends under test.

#[cfg(feature = "cube")]
use crate::rounding::with_tf32;
use burn::backend::{Backend, DTypeUsage, Dispatch};
use burn::tensor::{DType, Device, TensorData};
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::attention::AttentionBackend;
use burn_structured_ops::blast::BlastBackend;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::block_diagonal::BlockDiagonalBackend;
use burn_structured_ops::dense::DenseBackend;
use burn_structured_ops::spd::SpdBackend;
use burn_structured_ops::ss1::Ss1Backend;

/// Every way to compute a BLAST product.
pub const EVERY_STRATEGY: [BlastStrategy; 8] = [
    BlastStrategy::Auto,
    BlastStrategy::Reference,
    BlastStrategy::Staged,
    BlastStrategy::Fused,
    BlastStrategy::Candidate(BlastCandidate::TiledGemm),
    BlastStrategy::Candidate(BlastCandidate::TensorCore),
    BlastStrategy::Decode,
    BlastStrategy::Candidate(BlastCandidate::Autotuned),
];

/// How much of the table a backend goes through. A product on a software GPU takes seconds, on a processor microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "without CubeCL everything is native"))]
pub enum Scope {
    /// Every shape, layout, dtype and strategy.
    Native,
    /// Kernels without fusion: the shapes at which they change (one token, every vector size, several chunks).
    Kernels,
    /// The same kernels behind fusion: one shape.
    Fused,
}

/// A backend with every operation of this crate.
pub trait StructuredBackend:
    AttentionBackend + BlastBackend + BlockDiagonalBackend + DenseBackend + SpdBackend + Ss1Backend
{
}

impl<B: AttentionBackend + BlastBackend + BlockDiagonalBackend + DenseBackend + SpdBackend + Ss1Backend>
    StructuredBackend for B
{
}

/// A backend and one of its devices.
pub struct TestBackend<B: StructuredBackend> {
    pub name: String,
    pub device: B::Device,
    pub scope: Scope,
}

/// A test that runs on every backend.
pub trait BackendTest {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>);
}

/// Runs a test on every backend that is compiled in, or those named in `BURN_STRUCTURED_DEVICES` (`flex,vulkan`).
pub fn every_backend(test: &impl BackendTest) {
    #[cfg(feature = "flex")]
    if chosen("flex") {
        test.check(&TestBackend::<burn::backend::Flex> {
            name: "flex".into(),
            device: Default::default(),
            scope: Scope::Native,
        });
    }
    #[cfg(feature = "ndarray")]
    if chosen("ndarray") {
        test.check(&TestBackend::<burn::backend::NdArray> {
            name: "ndarray".into(),
            device: Default::default(),
            scope: Scope::Native,
        });
    }
    #[cfg(feature = "cube")]
    for (name, device) in cube_devices().into_iter().filter(|(name, _)| chosen(name)) {
        let kernels = || {
            test.check(&TestBackend::<burn_cubecl::CubeBackend> {
                name: name.into(),
                device: device.clone(),
                scope: Scope::Kernels,
            });
            #[cfg(feature = "fusion")]
            test.check(&TestBackend::<burn_cubecl::Cube> {
                name: format!("{name} with fusion"),
                device: device.clone(),
                scope: Scope::Fused,
            });
        };
        if name == "cuda" { with_tf32(kernels) } else { kernels() }
    }
}

/// The same devices as the public functions take them, for tests of those.
pub fn public_devices() -> Vec<Device> {
    let name_here = |name: &'static str| if name == "cpu" { "cubecl-cpu" } else { name };
    let backends = burn_structured_ops::device::compiled().into_iter();
    backends.filter(|backend| chosen(name_here(backend.name))).map(|backend| backend.device(0)).collect()
}

/// The float types of [`public_dtypes`] whose exponentials and error functions are exact on the device: Burn computes those of f64 in f32
/// on all but Flex, and SwiftShader not at all.
pub fn function_dtypes(device: &Device) -> Vec<DType> {
    let exact = |dtype: &DType| *device == Device::flex() || has_functions(*dtype, &format!("{device:?}"));
    public_dtypes(device).into_iter().filter(exact).collect()
}

/// Whether a backend other than Flex has exact exponentials of this type.
pub fn has_functions(dtype: DType, name: &str) -> bool {
    if dtype == DType::F64 {
        eprintln!("skipped: {name}: Burn's own functions of F64 are less exact than its sums");
    }
    dtype != DType::F64
}

/// The float types that a device computes with.
pub fn public_dtypes(device: &Device) -> Vec<DType> {
    #[cfg(feature = "cpu")]
    let processor = *device == Device::cpu();
    #[cfg(not(feature = "cpu"))]
    let processor = false;
    usable_dtypes::<Dispatch>(device.as_dispatch(), processor)
}

/// The float types that `B` computes with on the device; `processor` says whether that is CubeCL's CPU.
fn usable_dtypes<B: Backend>(device: &B::Device, processor: bool) -> Vec<DType> {
    [DType::F64, DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .filter(|dtype| B::dtype_usage(device, *dtype).is_superset(DTypeUsage::general()))
        .filter(|dtype| *dtype != DType::BF16 || !processor || processor_rounds_to_bf16())
        .collect()
}

fn chosen(name: &str) -> bool {
    let names = std::env::var("BURN_STRUCTURED_DEVICES").unwrap_or_default();
    names.is_empty() || names.split(',').any(|chosen| chosen.trim() == name)
}

impl<B: StructuredBackend> TestBackend<B> {
    /// The float types to try whole products in, with the strategies that differ there.
    ///
    /// Where each product takes seconds, [`BlastCandidate::TiledGemm`] is left to the fixtures.
    ///
    /// All but [`BlastCandidate::TiledGemm`] rest on the device's own batched matmul. That is Burn's to test, not ours,
    /// and some drivers fail it: SwiftShader returns zeros for a kernel that it cannot compile. What is left out is said.
    pub fn products(&self) -> Vec<(DType, Vec<BlastStrategy>)> {
        let strategies = |dtype: DType| {
            if matmul_is_right::<B>(&self.device, dtype) {
                return match self.scope {
                    Scope::Native => EVERY_STRATEGY.to_vec(),
                    _ if self.is_processor() => vec![BlastStrategy::Auto],
                    _ => vec![
                        BlastStrategy::Auto,
                        BlastStrategy::Fused,
                        BlastStrategy::Candidate(BlastCandidate::TiledGemm),
                    ],
                };
            }
            eprintln!("skipped: {}: Burn's own {dtype:?} matmul is wrong on this device", self.name);
            vec![BlastStrategy::Candidate(BlastCandidate::TiledGemm)]
        };
        self.dtypes().into_iter().map(|dtype| (dtype, strategies(dtype))).collect()
    }

    /// The float types that the device computes with.
    pub fn dtypes(&self) -> Vec<DType> {
        usable_dtypes::<B>(&self.device, self.is_processor())
    }

    /// Whether this is CubeCL's CPU, whose kernels take seconds to compile, and milliseconds at every barrier.
    pub fn is_processor(&self) -> bool {
        self.name.starts_with("cubecl-cpu")
    }
}

/// Whether CubeCL's CPU can compile a rounding to bf16. It says so of every processor, but where there is no instruction for
/// it the compiled kernel calls a function (`__truncsfbf2`) that CubeCL 0.11.3 does not link.
fn processor_rounds_to_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let rounds = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let rounds = false;
    if !rounds {
        eprintln!("skipped: cubecl-cpu: this processor does not round to bf16");
    }
    rounds
}

#[cfg(feature = "cube")]
#[allow(clippy::vec_init_then_push, reason = "each device is there by its own feature")]
fn cube_devices() -> Vec<(&'static str, burn_cubecl::CubeDevice)> {
    #[allow(unused_mut, reason = "a build may have the shared code without any of the devices below")]
    let mut devices = Vec::new();
    #[cfg(feature = "cpu")]
    devices.push(("cubecl-cpu", burn_cubecl::CubeDevice::Cpu(Default::default())));
    #[cfg(feature = "vulkan")]
    devices.push(("vulkan", cube_device(&Device::vulkan(Default::default()))));
    #[cfg(all(feature = "wgpu", not(feature = "vulkan"), not(feature = "metal")))]
    devices.push(("wgpu", cube_device(&Device::wgpu(Default::default()))));
    #[cfg(feature = "metal")]
    devices.push(("metal", cube_device(&Device::metal(Default::default()))));
    #[cfg(feature = "cuda")]
    devices.push(("cuda", cube_device(&Device::cuda(0))));
    #[cfg(feature = "rocm")]
    devices.push(("rocm", cube_device(&Device::rocm(0))));
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
fn cube_device(device: &Device) -> burn_cubecl::CubeDevice {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => device.clone(),
        other => panic!("{other:?} is no CubeCL device"),
    }
}

/// Compares batched products `[2, m, k] × [2, k, n]` of small whole numbers, which every float type holds exactly.
fn matmul_is_right<B: StructuredBackend>(device: &B::Device, dtype: DType) -> bool {
    [[17, 8, 48], [5, 3, 4], [1, 7, 2]].into_iter().all(|[m, k, n]| {
        let upload = |rows: usize, cols: usize, salt: usize| {
            let values: Vec<f64> = (0..2 * rows * cols).map(|index| ((index * salt) % 7) as f64 - 3.0).collect();
            (values.clone(), TensorData::new(values, [2, rows, cols]).convert_dtype(dtype))
        };
        let ((a, lhs), (b, rhs)) = (upload(m, k, 5), upload(k, n, 3));
        let product = B::float_matmul(B::float_from_data(lhs, device), B::float_from_data(rhs, device));
        let actual = crate::tensors::read::<B>(product);
        (0..2 * m * n).all(|index| {
            let (batch, row, col) = (index / (m * n), index / n % m, index % n);
            let expected: f64 = (0..k).map(|i| a[(batch * m + row) * k + i] * b[(batch * k + i) * n + col]).sum();
            actual[index] == expected
        })
    })
}
